"""The settings that all trainings of enhancers share: logging, checkpoints and seeds, for loops that count epochs.

With ``IterBasedTrainLoop`` override ``default_hooks.checkpoint`` with ``by_epoch=False`` and an interval in iterations,
``default_hooks.logger`` with ``log_metric_by_epoch=False``, and ``log_processor`` with ``by_epoch=False``.
"""

default_scope = "mmengine"

default_hooks = dict(
    logger=dict(type="LoggerHook", interval=10),
    checkpoint=dict(type="llie_preproc.MethodCheckpointHook", interval=1, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type="llie_preproc.IterationSeed"),
    dict(type="llie_preproc.ExportEnhancer"),
    dict(type="llie_preproc.EnhancedSamples", number=4),
]
visualizer = dict(
    type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
)
val_cfg = dict()
val_evaluator = dict(type="llie_preproc.ImageQuality")
randomness = dict(seed=42)
env_cfg = dict(cudnn_benchmark=True)
