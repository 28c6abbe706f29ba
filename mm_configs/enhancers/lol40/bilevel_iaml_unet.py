"""CollaBA's bi-level adversarial training on the 40 pairs, without the terms that need VGG's weights or a prior."""

_base_ = "../../_base_/lol_v1_40.py"

model = dict(
    type="llie_preproc.BilevelAdversarial",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=16, depth=3),
    losses=dict(pixel=dict(type="llie_preproc.L1Loss")),
    ema=0.99,
)
