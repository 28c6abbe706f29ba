"""IAML's mirror distillation on 40 pairs of LOL-v1; pixel and SSIM terms, lambda and EMA as in ``iaml_lolv1.py``."""

_base_ = "../../_base_/lol_v1_40.py"

model = dict(
    type="llie_preproc.MirrorDistillation",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=16, depth=3),
    losses=dict(mse=dict(type="llie_preproc.MSELoss"), ssim=dict(type="llie_preproc.SSIMLoss")),
    mirror="illumination",
    mirror_weight=0.8,
)
