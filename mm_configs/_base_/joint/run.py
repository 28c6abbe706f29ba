"""``schedule.py`` with MMDetection's runtime, as the base of a whole config."""

_base_ = "schedule.py"

# These settings are taken without their _delete_, because they replace no settings of a detector's config here.
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
