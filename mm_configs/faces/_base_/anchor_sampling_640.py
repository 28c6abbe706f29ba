"""DSFD's pipelines: crops of 640x640 that bring faces to the sizes of anchors; tests take pictures at their own size.

Faces of less than two pixels a side are left out of training, as in DSFD's release. An enhancer can be put between
``load`` (or ``load_image``) and the transforms.
"""

load_image = [dict(type="LoadImageFromFile")]
load = [*load_image, dict(type="LoadAnnotations", with_bbox=True)]
# The release distorts before it crops. The distortion works pixel by pixel, so the result is the same.
train_transforms = [
    # This keeps sides above 1. Sides are whole pixels, so they are at least 2.
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="llie_preproc.DataAnchorSampling", size=640),
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=(640, 640), keep_ratio=False),
    dict(type="llie_preproc.RestoreScaleFactor"),
    dict(type="PackDetInputs"),
]
# Pictures keep their size; the resize is here because the heads need the scale factor that it sets.
test_transforms = [
    dict(type="Resize", scale_factor=1.0, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="llie_preproc.RestoreScaleFactor"),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
