"""The pieces of pipelines that fit pictures into 1333x800, and data loaders.

An enhancer can be put between ``load`` (or ``load_image``) and the transforms.
``RestoreScaleFactor`` does nothing unless an enhancer that enlarges comes before the resize.
"""

load_image = [dict(type="LoadImageFromFile")]
load = [*load_image, dict(type="LoadAnnotations", with_bbox=True)]
train_transforms = [
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="llie_preproc.RestoreScaleFactor"),
    dict(type="PackDetInputs"),
]
test_transforms = [
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="llie_preproc.RestoreScaleFactor"),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]

train_loader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
)
test_loader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=False)
)
