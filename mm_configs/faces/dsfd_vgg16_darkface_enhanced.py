"""The DSFD of ``dsfd_vgg16_wider-face_enhanced.py`` with its enhancer, tested on DARK FACE without further training."""

_base_ = ["dsfd_vgg16_wider-face_enhanced.py", "_base_/darkface.py"]

work_dir = "work_dirs/dsfd_vgg16_darkface_{{$ENHANCER:psenet}}"
test_dataloader = dict(dataset=_base_.darkface_set)
test_evaluator = _base_.darkface_evaluator
