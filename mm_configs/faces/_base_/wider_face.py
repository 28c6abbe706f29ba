"""WIDER FACE: 12,880 pictures to train on, 3,226 to validate on, one class, COCO-style AP.

The environment variable ``WIDER_FACE_ROOT`` names the folder (by default ``data/WIDER_FACE``). It holds
``WIDER_train``, ``WIDER_val``, ``wider_face_split`` and the files that this command writes (PART is train or val)::

    llie annotations wider-face WIDER_PART/images wider_face_split/wider_face_PART_bbx_gt.txt \\
        --out annotations/wider_PART.json

The benchmark's own easy, medium and hard AP come from ``llie faces``. Faces that the annotations mark as invalid are
ignored; this is the project's own choice.
"""

_base_ = "anchor_sampling_640.py"

custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)

wider_root = "{{$WIDER_FACE_ROOT:data/WIDER_FACE}}/"
classes_of_set = ("face",)

train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="llie_preproc.NameMatchedCocoDataset",
        data_root=wider_root,
        metainfo=dict(classes=classes_of_set),
        ann_file="annotations/wider_train.json",
        data_prefix=dict(img="WIDER_train/images/"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=_base_.load + _base_.train_transforms,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="llie_preproc.NameMatchedCocoDataset",
        data_root=wider_root,
        metainfo=dict(classes=classes_of_set),
        ann_file="annotations/wider_val.json",
        data_prefix=dict(img="WIDER_val/images/"),
        test_mode=True,
        pipeline=_base_.load_image + _base_.test_transforms,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="llie_preproc.NameMatchedCocoMetric",
    ann_file=wider_root + "annotations/wider_val.json",
    metric="bbox",
)
test_evaluator = val_evaluator
