"""IAML on LOL-v1: IAMLUNet trained by mirror distillation (arXiv 2603.13363).

These settings are the paper's: Adam, a cosine over 500 epochs, batch size 8, random crops with flips along both axes,
MSE + SSIM + mirror loss, and a constant momentum. The paper's text, as this project has it, gives no other numbers.
These are this project's choice: a learning rate from 2e-4 to 1e-6, betas 0.9 and 0.999, crops of 256, momentum 0.999,
lambda 0.8, weights 1 and 1.6, and the network's width and depth. docs/ablations.md has the settings of Table IV.

The environment variable ``LOLV1_ROOT`` names the folder, which holds ``our485`` and ``eval15``.
"""

_base_ = "../_base_/enhancer_runtime.py"

data_root = "{{$LOLV1_ROOT:data/LOLv1}}"

model = dict(
    type="llie_preproc.MirrorDistillation",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=32, depth=4),
    losses=dict(mse=dict(type="llie_preproc.MSELoss"), ssim=dict(type="llie_preproc.SSIMLoss")),
    mirror="illumination",
    mirror_weight=0.8,
    momentum=0.999,
    base_weight=1.0,
    max_weight=1.6,
)

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="llie_preproc.DrawSampler", shuffle=True),
    dataset=dict(
        type="llie_preproc.LOLv1",
        root=data_root,
        split="train",
        transforms=[dict(type="llie_preproc.PairedRandomCrop", size=256), dict(type="llie_preproc.RandomFlip")],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="llie_preproc.DrawSampler", shuffle=False),
    dataset=dict(type="llie_preproc.LOLv1", root=data_root, split="test"),
)

optim_wrapper = dict(
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="Adam", lr=2e-4, betas=(0.9, 0.999))),
)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=500, eta_min=1e-6, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=500, val_interval=10)
