"""DSFD (the paper's form) on VGG-16, trained on WIDER FACE."""

_base_ = ["_base_/dsfd_vgg16.py", "_base_/wider_face.py", "_base_/dsfd_60k.py"]
