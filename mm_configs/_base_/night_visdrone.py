"""Night VisDrone: 526 pictures to train on and 131 to test on, 10 classes, COCO-style and official AP.

The environment variable ``VISDRONE_ROOT`` names the folder (by default ``data/VisDrone2019-DET``). It holds ``images``
and the files ``night_train.json`` and ``night_test.json`` that this command writes::

    llie annotations visdrone FOLDER --night --split 526 131 --out annotations/night.json

``max_per_img`` is the official metric's limit on detections. There is no validation part: validation uses the test
part, as in the paper. Do not choose a model or a setting by the validation scores.
"""

custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)

visdrone_root = "{{$VISDRONE_ROOT:data/VisDrone2019-DET}}/"
classes_of_set = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
num_classes = len(classes_of_set)
max_per_img = 500

train_set = dict(
    type="llie_preproc.NameMatchedCocoDataset",
    data_root=visdrone_root,
    metainfo=dict(classes=classes_of_set),
    ann_file="annotations/night_train.json",
    data_prefix=dict(img="images/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
)
test_set = dict(train_set, ann_file="annotations/night_test.json", test_mode=True)
val_set = test_set
test_evaluators = [
    dict(
        type="llie_preproc.NameMatchedCocoMetric",
        ann_file=visdrone_root + "annotations/night_test.json",
        metric="bbox",
        classwise=True,
    ),
    dict(type="llie_preproc.VisDroneMetric", ann_file=visdrone_root + "annotations/night_test.json"),
]
val_evaluators = test_evaluators
