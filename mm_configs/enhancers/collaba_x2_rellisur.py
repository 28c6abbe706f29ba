"""CollaBA x2 on RELLISUR by the paper's schedule (section 4.1): 100,000 iterations of batch 16, references of 160x160.

The optimiser is Adam with a rate of 2e-4, halved after 70,000 and 75,000 iterations. The paper's rate of 2e-3 seems to
be a misprint, because its code has 1e-4 and 2e-4. The losses are those of section 3.3. What the paper leaves open comes
from the public code: the layers of VGG-19 and their weights, the fixed weights of the loss terms, which the learned
weights multiply, and the moving average. The sharpened references and the total variation of the attention are not in
the paper and are off here; ``collaba_x2_rellisur_code.py`` turns them on. docs/ablations.md has the settings of Table 5
and Fig. 14.

The environment variable ``RELLISUR_ROOT`` names the set's folder. Set ``model.losses.perceptual.encoder.checkpoint`` to
torchvision's ``vgg19-dcbb9e9d.pth``, here or with ``--cfg-options``.
"""

_base_ = "../_base_/enhancer_runtime.py"

data_root = "{{$RELLISUR_ROOT:data/RELLISUR}}"

model = dict(
    type="llie_preproc.BilevelAdversarial",
    enhancer=dict(type="llie_preproc.CollaBA", scale=2, modulation="cft", upscaler="msmu"),
    losses=dict(
        pixel=dict(type="llie_preproc.L1Loss"),
        perceptual=dict(
            type="llie_preproc.PerceptualLoss",
            encoder=dict(type="llie_preproc.VGGEncoder", layers=19, checkpoint="weights/vgg19-dcbb9e9d.pth"),
            stages=("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"),
            stage_weights=(0.1, 0.1, 1.0, 1.0, 1.0),
            distance="l2",
            loss_weight=1.2,
        ),
    ),
    discriminators=dict(
        unet=dict(type="llie_preproc.UNetDiscriminator"),
        patch=dict(type="llie_preproc.PatchDiscriminator"),
    ),
    illumination_weight=1.0,
    attention_tv_weight=0.0,
    adversarial_weight=0.1,
    learned_weights=True,
    regulariser=True,
    bia=True,
    max_ratio=1.0,
    sharpen_target=False,
    ema=0.999,
)

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="llie_preproc.InfiniteDrawSampler"),
    dataset=dict(
        type="llie_preproc.RELLISUR",
        root=data_root,
        split="train",
        scale=2,
        transforms=[
            dict(type="llie_preproc.PairedRandomCrop", size=80),
            dict(type="llie_preproc.RandomFlip", horizontal=True, vertical=False),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type="llie_preproc.DrawSampler", shuffle=False),
    dataset=dict(type="llie_preproc.RELLISUR", root=data_root, split="val", scale=2),
)

optim_wrapper = dict(
    constructor="llie_preproc.MethodOptimWrapperConstructor",
    enhancer=dict(optimizer=dict(type="Adam", lr=2e-4, betas=(0.9, 0.99))),
    discriminator=dict(optimizer=dict(type="Adam", lr=2e-4, betas=(0.9, 0.99))),
)
param_scheduler = [dict(type="MultiStepLR", by_epoch=False, milestones=[70_000, 75_000], gamma=0.5)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=100_000, val_interval=5_000)
default_hooks = dict(
    logger=dict(interval=100, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=5_000),
)
log_processor = dict(by_epoch=False)
