"""CollaBA x2 on RELLISUR by the public code's options, where they differ from the paper: batch 8, references of 256x256.

Sharpened references, total variation of the attention, the global discriminator alone, the perceptual distance not
squared, Adam 1e-4 halved every 20,000 iterations. The network stays the paper's: ``model.enhancer.upscaler=nearest``
for the code's up-scaler.
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
