"""Semi-LLIE's mean teacher on 40 pairs of LOL-v1 and a folder of unpaired pictures.

The environment variable ``UNPAIRED_ROOT`` names that folder. The terms that need RAM's weights are left out; the
fidelity, gradient, consistency and adversarial terms remain. The adversarial term has a tenth of the paper's weight,
and a discriminator that is narrow enough for a CPU.
"""

_base_ = "../../_base_/lol_v1_40.py"

unpaired_root = "{{$UNPAIRED_ROOT:data/unpaired}}"

model = dict(
    type="llie_preproc.SemiSupervisedMeanTeacher",
    enhancer=dict(type="llie_preproc.IAMLUNet", width=16, depth=3),
    losses=dict(
        l1=dict(type="llie_preproc.L1Loss"), gradient=dict(type="llie_preproc.GradientLoss", loss_weight=0.1)
    ),
    contrastive=None,
    discriminator=dict(type="llie_preproc.PatchDiscriminator", norm="batch", width=16),
    adversarial_weight=0.01,
)
optim_wrapper = dict(
    _delete_=True,
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="llie_preproc.AdamP", lr=1e-3, weight_decay=1e-4), clip_grad=dict(max_norm=1.0)),
    discriminator=dict(optimizer=dict(type="Adam", lr=2e-4, betas=(0.9, 0.999))),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="llie_preproc.SemiSupervisedSet",
        paired=_base_.train_dataloader.dataset,
        unpaired=dict(type="llie_preproc.UnpairedFolder", folder=unpaired_root, size=(128, 128)),
        strong=dict(type="llie_preproc.StrongAugmentation"),
    )
)
