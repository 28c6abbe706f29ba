"""RetinaNet R50-FPN 1x on ExDark, trained and tested behind the enhancer ``$ENHANCER`` (default: PSENet)."""

_base_ = ["retinanet_r50_fpn_1x_exdark.py", "../_base_/enhanced.py"]

work_dir = "work_dirs/retinanet_r50_fpn_1x_exdark_{{$ENHANCER:psenet}}"
train_dataloader = dict(dataset=dict(pipeline=_base_.load + _base_.enhanced + _base_.train_transforms))
val_dataloader = dict(dataset=dict(pipeline=_base_.load_image + _base_.enhanced + _base_.test_transforms))
test_dataloader = val_dataloader
