"""PSENet, finetuned from its shipped weights through the small SAM on rendered night scenes, in minutes on a CPU.

The environment variable ``MASK_SCENES_ROOT`` names the scenes' folder. Its ``train`` and ``val`` hold ``day/``,
``ev-4/`` and ``annotations.json``, as ``python -m benchmarks.small_sam scenes`` writes them (docs/training.md).
``model.sam.checkpoint`` is the small SAM's weights.
"""

_base_ = "../_base_/enhancer_runtime.py"

data_root = "{{$MASK_SCENES_ROOT:data/mask_scenes}}/train"
val_root = "{{$MASK_SCENES_ROOT:data/mask_scenes}}/val"

model = dict(
    type="llie_preproc.SamConsistency",
    enhancer=dict(type="llie_preproc.PSENet", checkpoint="psenet_sice"),
    sam=dict(model="small", checkpoint="benchmarks/results/small_sam_cpu_2_cores/small_sam.safetensors"),
    # The dice loss has the largest weight, because embeddings and cross-entropy can improve while masks get worse.
    feature_weight=0.2,
    mask_bce_weight=0.2,
    mask_dice_weight=5.0,
    box_jitter=0.05,
    losses=dict(l1=dict(type="llie_preproc.L1Loss")),
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="llie_preproc.InfiniteDrawSampler"),
    dataset=dict(
        type="llie_preproc.MaskedPairs",
        low=f"{data_root}/ev-4",
        high=f"{data_root}/day",
        ann_file=f"{data_root}/annotations.json",
        size=128,
        transforms=[dict(type="llie_preproc.RandomFlip")],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="llie_preproc.MaskedPairs",
        low=f"{val_root}/ev-4",
        high=f"{val_root}/day",
        ann_file=f"{val_root}/annotations.json",
    ),
)

optim_wrapper = dict(
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="Adam", lr=5e-4), clip_grad=dict(max_norm=1.0)),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=300, val_interval=300)
param_scheduler = [dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, end=300)]
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100),
)
