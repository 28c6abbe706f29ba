"""Semi-LLIE on LSRW, with EnlightenGAN's 914 dark pictures as the unpaired set.

These settings are the paper's: AdamP with a rate of 2e-4 (betas 0.9 and 0.999, weight decay 1e-4), constant for 100 of
200 epochs, then falling linearly to 0; 8 pairs and 8 unpaired pictures of 256x256; L1 + 0.1 RAM perceptual (last three
stages) + 0.1 gradient; lambda_1 = 0.2 exp(-5 (1 - t / 200)^2); an adversarial weight of 0.1; a weak augmentation that
resizes, and a strong one that adds blur, grey and colour jitter.

Where the paper says nothing, these settings come from the public code: the resizing of pairs to 280x280 before the
crop and one of eight turns and mirrorings; the numbers of the strong augmentation; the teacher's momentum of 0.996;
batch norm in the discriminator, and its Adam with a rate of 2e-4. Two terms differ from the paper's print. Binary cross
entropy works on logits, because the printed logarithms lose the gradient. The contrastive ratio is student-teacher over
student-input (see ContrastiveLoss). An epoch is a pass over the unpaired set.

The environment variables ``LSRW_ROOT`` and ``ENLIGHTENGAN_ROOT`` name the folders. Set ``ram_checkpoint`` here to RAM's
published ``ram_swin_large_14m.pth``. docs/ablations.md has the settings of Tables III to VI.
"""

_base_ = "../_base_/enhancer_runtime.py"

data_root = "{{$LSRW_ROOT:data/LSRW}}"
unpaired_root = "{{$ENLIGHTENGAN_ROOT:data/EnlightenGAN}}/trainA"
ram_checkpoint = "pretrained/ram_swin_large_14m.pth"

encoder = dict(type="llie_preproc.RAMEncoder", checkpoint=ram_checkpoint)

model = dict(
    type="llie_preproc.SemiSupervisedMeanTeacher",
    enhancer=dict(type="llie_preproc.SemiLLIE"),
    losses=dict(
        l1=dict(type="llie_preproc.L1Loss"),
        perceptual=dict(
            type="llie_preproc.PerceptualLoss",
            encoder=encoder,
            stages=["s2", "s3", "s4"],
            distance="l2",
            loss_weight=0.1,
        ),
        gradient=dict(type="llie_preproc.GradientLoss", loss_weight=0.1),
    ),
    contrastive=dict(type="llie_preproc.ContrastiveLoss", encoder=encoder),
    discriminator=dict(type="llie_preproc.PatchDiscriminator", norm="batch"),
    consistency_weight=0.2,
    ramp=1.0,
    adversarial_weight=0.1,
    adversarial="bce",
    momentum=0.996,
)

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="llie_preproc.DrawSampler", shuffle=True),
    dataset=dict(
        type="llie_preproc.SemiSupervisedSet",
        paired=dict(
            type="llie_preproc.LSRW",
            root=data_root,
            split="train",
            transforms=[
                dict(type="llie_preproc.PairedResize", size=280),
                dict(type="llie_preproc.PairedRandomCrop", size=256),
                dict(type="llie_preproc.RandomDihedral"),
            ],
        ),
        unpaired=dict(
            type="llie_preproc.UnpairedFolder",
            folder=unpaired_root,
            transforms=[dict(type="llie_preproc.PairedResize", size=256)],
        ),
        strong=dict(type="llie_preproc.StrongAugmentation", jitter=True, grayscale=True, blur=True),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="llie_preproc.DrawSampler", shuffle=False),
    dataset=dict(type="llie_preproc.LSRW", root=data_root, split="test"),
)

optim_wrapper = dict(
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="llie_preproc.AdamP", lr=2e-4, betas=(0.9, 0.999), weight_decay=1e-4)),
    discriminator=dict(optimizer=dict(type="Adam", lr=2e-4, betas=(0.9, 0.999))),
)
# The end is 201, so that the rate reaches 0 after the last epoch, not in it.
param_scheduler = [dict(type="LinearLR", start_factor=1.0, end_factor=0.0, begin=100, end=201, by_epoch=True)]
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
