"""A small set for comparisons: 40 pairs of LOL-v1's training split to train on, and 8 to validate on.

Pictures with neighbouring numbers often show the same scene, so the 8 validation pairs are those with the highest
numbers. The schedule is much shorter than those of the papers. An iteration has eight crops of 128x128. The environment
variable ``LOLV1_ROOT`` names the folder that holds ``our485``. ``python -m benchmarks.lol_training`` runs the configs
that build on this one.
"""

_base_ = "enhancer_runtime.py"

data_root = "{{$LOLV1_ROOT:data/LOLv1}}/our485"
crop = [dict(type="llie_preproc.PairedRandomCrop", size=128), dict(type="llie_preproc.RandomDihedral")]

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="llie_preproc.InfiniteDrawSampler"),
    dataset=dict(
        type="llie_preproc.PairedFolders",
        low=f"{data_root}/low",
        high=f"{data_root}/high",
        names="{{ fileDirname }}/lol_v1_40_train.txt",
        transforms=crop,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="llie_preproc.PairedFolders",
        low=f"{data_root}/low",
        high=f"{data_root}/high",
        names="{{ fileDirname }}/lol_v1_40_val.txt",
    ),
)

optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=1e-3), clip_grad=dict(max_norm=1.0))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=400, val_interval=400)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=50, end=400),
]
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=100),
)
