"""MMDetection's YOLOX-s with its own schedule (300 epochs, mosaic and mixup).

An enhancer can be put between ``load`` (or ``load_image``) and the transforms. The learning rate is that for 64
pictures a step, scaled to the actual number. An inner dataset loads the pictures and an outer one mixes them, so each
picture of a mosaic is enhanced by itself.
"""

_base_ = "mmdet::yolox/yolox_s_8xb8-300e_coco.py"

load_image = [dict(type="LoadImageFromFile")]
load = [*load_image, dict(type="LoadAnnotations", with_bbox=True)]
test_transforms = [
    *_base_.test_pipeline[1:-1],
    dict(type="llie_preproc.RestoreScaleFactor"),
    _base_.test_pipeline[-1],
]
# These are the views of MMDetection's own test-time augmentation. Each step is a list of alternatives. The last packs.
test_time_views = [
    dict(
        _base_.tta_pipeline[-1],
        transforms=[
            *_base_.tta_pipeline[-1].transforms[:-1],
            [dict(type="llie_preproc.RestoreScaleFactor")],
            _base_.tta_pipeline[-1].transforms[-1],
        ],
    )
]
auto_scale_lr = dict(enable=True)
