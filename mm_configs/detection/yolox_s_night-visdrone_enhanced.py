"""YOLOX-s on night VisDrone, trained and tested behind the enhancer ``$ENHANCER`` (default: PSENet)."""

_base_ = ["yolox_s_night-visdrone.py", "../_base_/enhanced.py"]

work_dir = "work_dirs/yolox_s_night-visdrone_{{$ENHANCER:psenet}}"
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=_base_.load + _base_.enhanced)))
val_dataloader = dict(dataset=dict(pipeline=_base_.load_image + _base_.enhanced + _base_.test_transforms))
test_dataloader = val_dataloader
tta_pipeline = _base_.load_image + _base_.enhanced + _base_.test_time_views
