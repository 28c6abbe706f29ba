"""238 pairs of LOL-v1's training split, 24 of them for validation, together with pictures that are made dark.

Pictures with neighbouring numbers often show the same scene, so the validation pairs are five blocks of numbers that
begin and end where the scene changes. Of the training pictures, 70 % are crops of the other 214 pairs. The others are
well-exposed pictures of COCO and SICE, made dark as a camera would see them, because the pairs of LOL-v1 are of few
rooms and one camera; 12 % of these stay as they are.

``LOLV1_ROOT`` names the folder that holds ``our485``. ``LOLV1_MORE`` names a folder with ``low`` and ``high`` in which
the pairs of the lists ``our485_more_*.txt`` are; it may be ``our485`` itself. ``COCO_TRAIN_ROOT`` and
``SICE_PART1_ROOT`` name folders of well-lit pictures, as for ``detector_consistency_yolox-nano.py``.
"""

_base_ = "enhancer_runtime.py"

first_root = "{{$LOLV1_ROOT:data/LOLv1}}/our485"
more_root = "{{$LOLV1_MORE:data/LOLv1/our485}}"
coco_root = "{{$COCO_TRAIN_ROOT:data/coco/train2017}}"
sice_root = "{{$SICE_PART1_ROOT:data/sice_part1}}"
lists = "{{ fileDirname }}/lol_v1_238"
steps = 3000

first = dict(type="llie_preproc.PairedFolders", low=f"{first_root}/low", high=f"{first_root}/high")
more = dict(type="llie_preproc.PairedFolders", low=f"{more_root}/low", high=f"{more_root}/high")
crop = [dict(type="llie_preproc.PairedRandomCrop", size=128), dict(type="llie_preproc.RandomDihedral")]
pairs = dict(
    type="llie_preproc.ConcatenatedSets",
    datasets=[
        dict(first, names=f"{lists}/our485_train.txt", transforms=crop),
        dict(more, names=f"{lists}/our485_more_train.txt", transforms=crop),
    ],
)

# Exposures from -7 to 0.3 EV.
sensor = dict(exposure=(0.0078, 1.23), gamma=(1.0, 1.0), electrons=(1500.0, 8000.0), read_noise=(1.0, 4.0))
even = dict(
    type="llie_preproc.LowLightSynthesis", processing=dict(type="llie_preproc.CameraProcessing"), **sensor
)
uneven = dict(even, illumination=dict(type="llie_preproc.NightIllumination"))
jpeg = dict(type="llie_preproc.JPEGCompression")
synthesis = dict(
    type="llie_preproc.RandomSynthesis",
    choices=[
        dict(share=0.12, steps=[]),
        dict(share=0.44, steps=[even, jpeg]),
        dict(share=0.44, steps=[uneven, jpeg]),
    ],
)
darkened = dict(
    type="llie_preproc.SynthesisedPairs",
    synthesis=synthesis,
    transforms=[dict(type="llie_preproc.PairedRandomResize", factor=(0.5, 1.0), least=128), *crop],
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="llie_preproc.InfiniteDrawSampler"),
    dataset=dict(
        type="llie_preproc.MixedSets",
        shares=(0.7, 0.2, 0.1),
        datasets=[
            pairs,
            dict(darkened, folder=coco_root),
            dict(darkened, folder=sice_root, names="{{ fileDirname }}/sice_part1_well_exposed.txt"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="llie_preproc.ConcatenatedSets",
        datasets=[
            dict(first, names=f"{lists}/our485_val.txt"),
            dict(more, names=f"{lists}/our485_more_val.txt"),
        ],
    ),
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=1000)
param_scheduler = [dict(type="OneCycleLR", eta_max=1e-3, total_steps=steps, pct_start=0.1, by_epoch=False)]
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=250),
)
