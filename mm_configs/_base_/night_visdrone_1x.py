"""Night VisDrone for detectors that train by MMDetection's 1x schedule, without an enhancer."""

_base_ = ["night_visdrone.py", "resize_1x.py"]

train_dataloader = dict(dataset=dict(**_base_.train_set, pipeline=_base_.load + _base_.train_transforms))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.load_image + _base_.test_transforms))
test_dataloader = dict(dataset=dict(**_base_.test_set, pipeline=_base_.load_image + _base_.test_transforms))
val_evaluator = _base_.val_evaluators
test_evaluator = _base_.test_evaluators
