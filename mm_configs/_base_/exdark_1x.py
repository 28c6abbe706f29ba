"""ExDark for detectors that train by the 1x schedule, pictures as they are."""

_base_ = ["exdark.py", "resize_1x.py"]

train_dataloader = dict(dataset=dict(**_base_.train_set, pipeline=_base_.load + _base_.train_transforms))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.load_image + _base_.test_transforms))
test_dataloader = dict(dataset=dict(**_base_.test_set, pipeline=_base_.load_image + _base_.test_transforms))
val_evaluator = _base_.val_evaluators
test_evaluator = _base_.test_evaluators
