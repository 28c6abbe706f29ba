"""PSENet on the 2,002 pictures of SICE part 1, with the schedule of the paper (supplement, 7.1).

The environment variable ``SICE_PART1_ROOT`` names the folder that is searched for pictures; ``LOLV1_ROOT`` names the
folder of the validation pairs in ``eval15``. On the command line these are ``train_dataloader.dataset.folder``,
``val_dataloader.dataset.low`` and ``.high``.
"""

_base_ = "../_base_/enhancer_runtime.py"

data_root = "{{$SICE_PART1_ROOT:data/sice_part1}}"
val_root = "{{$LOLV1_ROOT:data/LOLv1}}/eval15"

model = dict(
    type="llie_preproc.ProgressiveSelfEnhancement",
    enhancer=dict(type="llie_preproc.PSENet"),
    num_references=1,
    tv_weight=5.0,
)

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="llie_preproc.DrawSampler"),
    dataset=dict(type="llie_preproc.UnpairedFolder", folder=data_root, size=(256, 256)),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="llie_preproc.PairedFolders", low=f"{val_root}/low", high=f"{val_root}/high"),
)

optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="Adam", lr=5e-4, betas=(0.9, 0.99)))
param_scheduler = [dict(type="llie_preproc.TrainLossPlateauLR", factor=0.5, patience=5)]
train_cfg = dict(by_epoch=True, max_epochs=140, val_interval=10)
