"""IAML's mirror distillation of a narrow IAMLUNet (486,526 parameters) on 214 pairs of LOL-v1 and darkened pictures."""

_base_ = "../../_base_/lol_v1_238.py"

model = dict(
    type="llie_preproc.MirrorDistillation",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=16, depth=3),
    losses=dict(
        l1=dict(type="llie_preproc.L1Loss"),
        ssim=dict(type="llie_preproc.SSIMLoss", loss_weight=0.3),
    ),
    mirror="illumination",
    mirror_weight=0.2,
    ema=0.99,
)
