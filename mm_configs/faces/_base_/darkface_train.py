"""DARK FACE to train and to test on: 5,400 and 600 of its 6,000 pictures, one class, COCO-style AP.

The environment variable ``DARKFACE_ROOT`` names the folder (by default ``data/DarkFace``). It holds ``image``,
``label`` and the files ``darkface_train.json`` and ``darkface_test.json`` that this command writes::

    llie annotations darkface image label --split 0.9 --out annotations/darkface.json

The set has no published split; other users also draw parts of these sizes. There is no validation part: validation uses
the test part. Do not choose a model or a setting by the validation scores. The benchmark's own AP comes from ``llie
faces``. That AP has no limit on the detections in a picture; ``max_per_img`` is DSFD's limit.
"""

custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)

darkface_root = "{{$DARKFACE_ROOT:data/DarkFace}}/"
classes_of_set = ("face",)
num_classes = len(classes_of_set)
max_per_img = 750

train_set = dict(
    type="llie_preproc.NameMatchedCocoDataset",
    data_root=darkface_root,
    metainfo=dict(classes=classes_of_set),
    ann_file="annotations/darkface_train.json",
    data_prefix=dict(img="image/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
)
test_set = dict(train_set, ann_file="annotations/darkface_test.json", test_mode=True)
val_set = test_set
test_evaluators = [
    dict(
        type="llie_preproc.NameMatchedCocoMetric",
        ann_file=darkface_root + "annotations/darkface_test.json",
        metric="bbox",
    )
]
val_evaluators = test_evaluators
