"""Semi-LLIE's mean teacher on 214 pairs of LOL-v1, darkened pictures and unpaired night pictures, without RAM's weights.

SqueezeNet takes RAM's place in the perceptual and the contrastive term. The variable ``SQUEEZENET_CAFFE`` names its
weights (docs/feature_encoders.md), and ``UNPAIRED_ROOT`` a folder of night pictures. The adversarial term has a tenth of
the paper's weight, and a discriminator that is narrow enough for a CPU. A step has four pairs and four night pictures
of 64x64, because the scan is slow on a CPU; on a GPU give more and larger ones.
"""

_base_ = "../../_base_/lol_v1_238.py"

unpaired_root = "{{$UNPAIRED_ROOT:data/unpaired}}"
encoder = dict(
    type="llie_preproc.SqueezeNetEncoder",
    checkpoint="{{$SQUEEZENET_CAFFE:weights/squeezenet1_1_caffe.safetensors}}",
    normalisation="caffe",
)

model = dict(
    type="llie_preproc.SemiSupervisedMeanTeacher",
    enhancer=dict(type="llie_preproc.SemiLLIE", drop_path=0.0),
    losses=dict(
        l1=dict(type="llie_preproc.L1Loss"),
        ssim=dict(type="llie_preproc.SSIMLoss", loss_weight=0.2),
        gradient=dict(type="llie_preproc.GradientLoss", loss_weight=0.1),
        perceptual=dict(
            type="llie_preproc.PerceptualLoss",
            encoder=encoder,
            stages=["fire3", "fire5", "fire9"],
            stage_weights=[0.02, 0.03, 0.2],
            distance="l1",
            loss_weight=0.02,
        ),
    ),
    contrastive=dict(type="llie_preproc.ContrastiveLoss", encoder=encoder, weight=0.1),
    discriminator=dict(type="llie_preproc.PatchDiscriminator", norm="batch", width=16),
    adversarial_weight=0.01,
)

small_crop = dict(type="llie_preproc.PairedRandomCrop", size=64)
parts = _base_.train_dataloader.dataset.datasets
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type="llie_preproc.SemiSupervisedSet",
        paired=dict(
            type="llie_preproc.MixedSets",
            shares=_base_.train_dataloader.dataset.shares,
            datasets=[
                dict(
                    type="llie_preproc.ConcatenatedSets",
                    datasets=[
                        dict(part, transforms=[small_crop, dict(type="llie_preproc.RandomDihedral")])
                        for part in _base_.pairs.datasets
                    ],
                ),
                *(dict(part, transforms=[part.transforms[0], small_crop]) for part in parts[1:]),
            ],
        ),
        unpaired=dict(
            type="llie_preproc.UnpairedFolder",
            folder=unpaired_root,
            transforms=[dict(type="llie_preproc.PairedRandomResize", factor=(0.25, 0.5), least=128), small_crop],
        ),
        strong=dict(type="llie_preproc.StrongAugmentation"),
    ),
)
optim_wrapper = dict(
    _delete_=True,
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="llie_preproc.AdamP", lr=1e-3, weight_decay=1e-4), clip_grad=dict(max_norm=1.0)),
    discriminator=dict(optimizer=dict(type="Adam", lr=2e-4, betas=(0.9, 0.999))),
)
