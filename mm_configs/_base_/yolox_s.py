"""MMDetection's YOLOX-s by its own schedule (300 epochs, mosaic and mixup), in pieces between which an enhancer fits.

The learning rate is that of 64 pictures a step, scaled to what is used. The pieces that load are those of the dataset
inside the mixing one: each picture of a mosaic is enhanced by itself.
"""

_base_ = "mmdet::yolox/yolox_s_8xb8-300e_coco.py"

load_image = [dict(type="LoadImageFromFile")]
load = [*load_image, dict(type="LoadAnnotations", with_bbox=True)]
test_transforms = [
    *_base_.test_pipeline[1:-1],
    dict(type="llie_preproc.RestoreScaleFactor"),
    _base_.test_pipeline[-1],
]
# Of MMDetection's own test-time augmentation: a step is a list of alternatives, and the last one packs.
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
