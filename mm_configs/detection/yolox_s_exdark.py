"""YOLOX-s on ExDark, from random weights; no enhancer."""

_base_ = ["../_base_/yolox_s.py", "../_base_/exdark.py"]

model = dict(bbox_head=dict(num_classes=_base_.num_classes))
train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.load)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.load_image + _base_.test_transforms))
test_dataloader = dict(dataset=dict(**_base_.test_set, pipeline=_base_.load_image + _base_.test_transforms))
val_evaluator = _base_.val_evaluators
test_evaluator = _base_.test_evaluators
tta_pipeline = _base_.load_image + _base_.test_time_views
