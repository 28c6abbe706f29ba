"""CollaBA x4 on RELLISUR by the paper's schedule: inputs of 40x40, references of 160x160."""

_base_ = "collaba_x2_rellisur.py"

model = dict(
    enhancer=dict(scale=4),
    losses=dict(perceptual=dict(loss_weight=1.0)),
)
train_dataloader = dict(
    dataset=dict(
        scale=4,
        transforms=[
            dict(type="llie_preproc.PairedRandomCrop", size=40),
            dict(type="llie_preproc.RandomFlip", horizontal=True, vertical=False),
        ],
    )
)
val_dataloader = dict(dataset=dict(scale=4))
