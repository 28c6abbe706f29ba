"""CollaBA's bi-level adversarial training on 40 pairs of LOL-v1, without terms that need VGG's weights or a prior.

Only the patch discriminator is used, at a quarter of its width. The other discriminator is too slow for a CPU.
"""

_base_ = "../../_base_/lol_v1_40.py"

model = dict(
    type="llie_preproc.BilevelAdversarial",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=16, depth=3),
    losses=dict(pixel=dict(type="llie_preproc.L1Loss"), ssim=dict(type="llie_preproc.SSIMLoss", loss_weight=0.2)),
    discriminators=dict(local=dict(type="llie_preproc.PatchDiscriminator", width=16)),
    illumination_weight=0.0,
    ema=0.95,
)
optim_wrapper = dict(
    _delete_=True,
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="Adam", lr=1e-3, betas=(0.9, 0.99)), clip_grad=dict(max_norm=1.0)),
    discriminator=dict(optimizer=dict(type="Adam", lr=1e-4, betas=(0.9, 0.99))),
)
