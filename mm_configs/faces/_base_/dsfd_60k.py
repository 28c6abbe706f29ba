"""DSFD's schedule: 60,000 steps of 16 pictures, SGD, the learning rate divided by 10 at 40,000 and 50,000.

This project added the warm-up and the clipping of gradients, because plain SSD training on faces is known to diverge
now and then. The learning rate is that for 16 pictures a step; another batch size scales it.
"""

_base_ = "mmdet::_base_/default_runtime.py"

train_cfg = dict(type="IterBasedTrainLoop", max_iters=60_000, val_interval=10_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1e-3, momentum=0.9, weight_decay=5e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=60_000, milestones=[40_000, 50_000], gamma=0.1),
]
auto_scale_lr = dict(enable=True, base_batch_size=16)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=10_000, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)
