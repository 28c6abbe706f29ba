"""CollaBA x4 on RELLISUR with the options of the public code.

The best response of the bi-level training is off, and the enhancer makes a step only in every third iteration.
"""

_base_ = "collaba_x2_rellisur_code.py"

model = dict(
    enhancer=dict(scale=4),
    losses=dict(perceptual=dict(loss_weight=1.0)),
    bia=False,
    enhancer_interval=3,
)
train_dataloader = dict(
    dataset=dict(
        scale=4,
        transforms=[
            dict(type="llie_preproc.PairedRandomCrop", size=64),
            dict(type="llie_preproc.RandomFlip", horizontal=True, vertical=False),
        ],
    )
)
val_dataloader = dict(dataset=dict(scale=4))
optim_wrapper = dict(
    enhancer=dict(optimizer=dict(lr=2e-4)),
    discriminator=dict(optimizer=dict(lr=2e-4)),
)
