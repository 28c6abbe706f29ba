"""The DSFD of ``dsfd_vgg16_wider-face.py`` behind a frozen PSENet, zero-shot, tested on DARK FACE."""

_base_ = ["dsfd_vgg16_wider-face_psenet.py", "_base_/darkface.py"]

test_dataloader = dict(dataset=_base_.darkface_set)
test_evaluator = _base_.darkface_evaluator
