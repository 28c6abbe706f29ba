"""MMDetection's 1x schedule (12 epochs) with pictures that fit into 1333x800, by the pieces of ``resize.py``.

The learning rate is that for 16 pictures a step, scaled to the actual number.
"""

_base_ = ["resize.py", "mmdet::_base_/schedules/schedule_1x.py", "mmdet::_base_/default_runtime.py"]

train_dataloader = _base_.train_loader
val_dataloader = _base_.test_loader
test_dataloader = _base_.test_loader
auto_scale_lr = dict(enable=True)
