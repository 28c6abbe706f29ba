"""CollaBA x2 on RELLISUR with the options of the public code where they differ from the paper.

The batch size is 8, and references are 256x256. References are sharpened, the total variation of the attention is
added, there is only the global discriminator, and the perceptual distance is not squared. Adam's rate of 1e-4 is halved
every 20,000 iterations. The network stays that of the paper; ``model.enhancer.upscaler=nearest`` sets the code's
up-scaler.
"""

_base_ = "collaba_x2_rellisur.py"

model = dict(
    losses=dict(perceptual=dict(distance="l1")),
    discriminators=dict(patch=None),
    attention_tv_weight=1.0,
    sharpen_target=True,
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        transforms=[
            dict(type="llie_preproc.PairedRandomCrop", size=128),
            dict(type="llie_preproc.RandomFlip", horizontal=True, vertical=False),
        ],
    ),
)
optim_wrapper = dict(
    enhancer=dict(optimizer=dict(lr=1e-4)),
    discriminator=dict(optimizer=dict(lr=1e-4)),
)
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=False, milestones=[20_000, 40_000, 60_000, 80_000], gamma=0.5)
]
