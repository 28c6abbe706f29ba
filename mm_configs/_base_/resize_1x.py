"""MMDetection's 1x schedule (12 epochs), pictures within 1333x800, in pieces between which an enhancer fits.

The learning rate is that of 16 pictures a step, scaled to what is used. ``RestoreScaleFactor`` does nothing unless an
enhancer that enlarges stands before the resize.
"""

_base_ = ["mmdet::_base_/schedules/schedule_1x.py", "mmdet::_base_/default_runtime.py"]

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

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
)
val_dataloader = dict(
    batch_size=1, num_workers=2, persistent_workers=True, sampler=dict(type="DefaultSampler", shuffle=False)
)
test_dataloader = val_dataloader
auto_scale_lr = dict(enable=True)
