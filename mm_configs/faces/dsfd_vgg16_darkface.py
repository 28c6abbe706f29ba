"""The DSFD of ``dsfd_vgg16_wider-face.py``, tested on DARK FACE without further training."""

_base_ = ["dsfd_vgg16_wider-face.py", "_base_/darkface.py"]

test_dataloader = dict(dataset=_base_.darkface_set)
test_evaluator = _base_.darkface_evaluator
