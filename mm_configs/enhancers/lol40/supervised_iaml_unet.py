"""Plain supervised training of IAMLUNet on 40 pairs of LOL-v1."""

_base_ = "../../_base_/lol_v1_40.py"

model = dict(
    type="llie_preproc.SupervisedTraining",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=16, depth=3),
    losses=dict(l1=dict(type="llie_preproc.L1Loss"), ssim=dict(type="llie_preproc.SSIMLoss", loss_weight=0.2)),
)
