"""GainUNet, trained through a frozen YOLOX-Nano with COCO weights, so that it finds at night what it finds by day.

No labels are needed: well-lit pictures are made dark, and the detector's features and scores of the enhanced picture
are pulled to those of the well-lit picture. ``detector_consistency_yolox-nano_iaml.py`` trains IAML's network this way.

``COCO_TRAIN_ROOT``, ``WELL_LIT_ROOT`` and ``SICE_PART1_ROOT`` name folders of well-lit pictures, from which 60 %, 20 %
and 20 % of the draws come: pictures of COCO's training split, others (the normal pictures of LOL-v1) and SICE part 1, of
which a list names those that are well exposed. ``YOLOX_NANO_COCO`` names the detector's weights. Use ``--amp``: on a CPU
with bfloat16 the training then takes half the time.
"""

_base_ = "../_base_/enhancer_runtime.py"

coco_root = "{{$COCO_TRAIN_ROOT:data/coco/train2017}}"
well_lit_root = "{{$WELL_LIT_ROOT:data/LOLv1/our485/high}}"
sice_root = "{{$SICE_PART1_ROOT:data/sice_part1}}"
steps = 4800

model = dict(
    type="llie_preproc.DetectorConsistency",
    enhancer=dict(type="llie_preproc.GainUNet"),
    detector=dict(
        config="mmdet::yolox/yolox_nano_8xb8-300e_coco.py",
        checkpoint="{{$YOLOX_NANO_COCO:weights/yolox_nano_coco_mmdet.pth}}",
        # Pictures of COCO, 640x480, reach this detector at 0.65 of their size.
        scales=(0.45, 1.0),
    ),
    feature_weight=0.3,
    score_weight=0.2,
    losses=dict(l1=dict(type="llie_preproc.L1Loss")),
    ema=0.999,
)

# Exposures from -7.5 to 0.3 EV.
sensor = dict(exposure=(0.0055, 1.23), gamma=(1.0, 1.0), electrons=(1500.0, 8000.0), read_noise=(1.0, 4.0))
processing = dict(type="llie_preproc.CameraProcessing")
jpeg = dict(type="llie_preproc.JPEGCompression")
even = dict(type="llie_preproc.LowLightSynthesis", processing=processing, **sensor)
uneven = dict(even, illumination=dict(type="llie_preproc.NightIllumination"))
synthesis = dict(
    type="llie_preproc.RandomSynthesis",
    choices=[
        dict(share=0.20, steps=[]),
        dict(share=0.07, steps=[dict(type="llie_preproc.RandomGamma")]),
        dict(share=0.365, steps=[even, jpeg]),
        dict(share=0.365, steps=[uneven, jpeg]),
    ],
)
transforms = [
    dict(type="llie_preproc.PairedRandomResize", factor=(0.6, 1.15), least=256),
    dict(type="llie_preproc.PairedRandomCrop", size=256),
    dict(type="llie_preproc.RandomFlip", vertical=False),
]
pictures = dict(type="llie_preproc.SynthesisedPairs", synthesis=synthesis, transforms=transforms)

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="llie_preproc.InfiniteDrawSampler"),
    dataset=dict(
        type="llie_preproc.MixedSets",
        shares=(0.6, 0.2, 0.2),
        datasets=[
            dict(pictures, folder=coco_root),
            dict(pictures, folder=well_lit_root),
            dict(pictures, folder=sice_root, names="{{ fileDirname }}/../_base_/sice_part1_well_exposed.txt"),
        ],
    ),
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps)
param_scheduler = [dict(type="OneCycleLR", eta_max=1e-3, total_steps=steps, pct_start=0.1, by_epoch=False)]
val_cfg = None
val_evaluator = None
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=250),
)
