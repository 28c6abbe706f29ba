"""A small Faster R-CNN on ExDark, or on a few of its pictures, to try a comparison in minutes on two CPU cores.

It has the demo's half-width ResNet-18 without pretrained weights, and pictures within 320x320. Its AP says nothing
about ExDark.
"""

_base_ = ["../demo/faster_rcnn_r18_night.py", "../_base_/exdark.py"]

max_iters = 300

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4, 8])),
    roi_head=dict(
        bbox_roi_extractor=dict(finest_scale=56),
        bbox_head=dict(num_classes=_base_.num_classes),
    ),
)
load_image = [dict(type="LoadImageFromFile")]
load = [*load_image, dict(type="LoadAnnotations", with_bbox=True)]
resize = [dict(type="Resize", scale=(320, 320), keep_ratio=True)]
train_pipeline = load + resize + _base_.train_pipeline[3:]
test_pipeline = load_image + resize + _base_.test_pipeline[2:]
train_dataloader = dict(batch_size=4, dataset=dict(_delete_=True, **_base_.train_set, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**_base_.val_set, pipeline=test_pipeline),
)
test_dataloader = dict(batch_size=4, dataset=dict(_delete_=True, **_base_.test_set, pipeline=test_pipeline))
val_evaluator = _base_.val_evaluators
test_evaluator = _base_.test_evaluators
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.01, by_epoch=False, begin=30, end=max_iters, T_max=max_iters - 30),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
