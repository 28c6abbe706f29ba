"""The settings of ``schedule.py`` as a run of their own, with MMDetection's runtime."""

_base_ = "schedule.py"

# These come without _delete_, because there is no detector's config for them to replace.
optim_wrapper = dict(type="OptimWrapper", optimizer=_base_.optim_wrapper.optimizer)
train_cfg = _base_.train_cfg
train_dataloader = dict(sampler=_base_.train_dataloader.sampler)

val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

default_scope = "mmdet"
default_hooks = dict(logger=dict(type="LoggerHook", interval=50), visualization=dict(type="DetVisualizationHook"))
env_cfg = dict(
    cudnn_benchmark=False, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0), dist_cfg=dict(backend="nccl")
)
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer")
log_processor = dict(type="LogProcessor", window_size=50)
