"""DARK FACE with its labels, for models that need boxes; the masks that they find are written as COCO JSON.

``mm_configs/faces/_base_/darkface.py`` says where the set is. Pictures are not resized. The set has no masks to score
against; the masks that are found go to ``work_dirs/segmentation/darkface.segm.json``. Annotations are loaded before any
transform that resizes the picture, so that their boxes are resized with it.
"""

_base_ = ["mmdet::_base_/default_runtime.py", "../../faces/_base_/darkface.py"]

custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **_base_.darkface_set,
        type="llie_preproc.NameMatchedCocoDataset",
        metainfo=dict(classes=("face",)),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
        ],
    ),
)
test_evaluator = dict(
    **_base_.darkface_evaluator,
    type="llie_preproc.NameMatchedCocoMetric",
    metric="segm",
    format_only=True,
    outfile_prefix="work_dirs/segmentation/darkface",
)
test_cfg = dict(type="TestLoop")
