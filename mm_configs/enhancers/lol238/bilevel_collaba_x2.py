"""CollaBA's bi-level training of a narrow CollaBA (1,338,065 parameters) that doubles 214 pairs of LOL-v1 and others.

The input is the dark picture at half its width and height, and the reference is the well-lit picture at its own size.
Only the patch discriminator is used, at a quarter of its width, because the other one is too slow for a CPU. SqueezeNet
takes VGG-19's place in the perceptual term; ``SQUEEZENET_CAFFE`` names its weights (docs/feature_encoders.md).
"""

_base_ = "../../_base_/lol_v1_238.py"

model = dict(
    type="llie_preproc.BilevelAdversarial",
    enhancer=dict(type="llie_preproc.CollaBA", scale=2, width=32, prior_width=16),
    losses=dict(
        pixel=dict(type="llie_preproc.L1Loss"),
        ssim=dict(type="llie_preproc.SSIMLoss", loss_weight=0.2),
        perceptual=dict(
            type="llie_preproc.PerceptualLoss",
            encoder=dict(
                type="llie_preproc.SqueezeNetEncoder",
                checkpoint="{{$SQUEEZENET_CAFFE:weights/squeezenet1_1_caffe.safetensors}}",
                normalisation="caffe",
            ),
            stages=["fire3", "fire5", "fire9"],
            stage_weights=[0.02, 0.03, 0.2],
            distance="l1",
            loss_weight=0.02,
        ),
    ),
    discriminators=dict(local=dict(type="llie_preproc.PatchDiscriminator", width=16)),
    illumination_weight=0.1,
    adversarial_weight=0.01,
    ema=0.99,
)

parts = _base_.train_dataloader.dataset.datasets
held_out = _base_.val_dataloader.dataset.datasets
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type="llie_preproc.ConcatenatedSets",
                datasets=[dict(part, reduce_input=2) for part in _base_.pairs.datasets],
            ),
            dict(parts[1], reduce_input=2),
            dict(parts[2], reduce_input=2),
        ],
    ),
)
val_dataloader = dict(dataset=dict(datasets=[dict(part, reduce_input=2) for part in held_out]))
optim_wrapper = dict(
    _delete_=True,
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="Adam", lr=1e-3, betas=(0.9, 0.99)), clip_grad=dict(max_norm=1.0)),
    discriminator=dict(optimizer=dict(type="Adam", lr=1e-4, betas=(0.9, 0.99))),
)
