"""DSFD on VGG-16 from WIDER FACE and Zero-DCE before it, trained together on DARK FACE."""

_base_ = ["../_base_/joint/dsfd_vgg16_darkface.py", "../_base_/joint/zero_dce.py"]

model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, trainable=True, **_base_.enhancer
)
