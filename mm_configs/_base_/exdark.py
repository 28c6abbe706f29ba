"""ExDark: 3,000 pictures to train on, 1,800 to validate on and 2,563 to test on, 12 classes, COCO-style AP.

The environment variable ``EXDARK_ROOT`` names the folder (by default ``data/ExDark``). It holds ``images`` and what
this command writes for each PART of train, val and test::

    llie annotations exdark IMAGES BBGT --list imageclasslist.txt --part PART \\
        --out annotations/exdark_PART.json
"""

custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)

exdark_root = "{{$EXDARK_ROOT:data/ExDark}}/"
classes_of_set = (
    "Bicycle",
    "Boat",
    "Bottle",
    "Bus",
    "Car",
    "Cat",
    "Chair",
    "Cup",
    "Dog",
    "Motorbike",
    "People",
    "Table",
)
num_classes = len(classes_of_set)
max_per_img = 100

train_set = dict(
    type="llie_preproc.NameMatchedCocoDataset",
    data_root=exdark_root,
    metainfo=dict(classes=classes_of_set),
    ann_file="annotations/exdark_train.json",
    data_prefix=dict(img="images/"),
    filter_cfg=dict(filter_empty_gt=True, min_size=32),
)
val_set = dict(train_set, ann_file="annotations/exdark_val.json", test_mode=True)
test_set = dict(val_set, ann_file="annotations/exdark_test.json")
val_evaluators = [
    dict(
        type="llie_preproc.NameMatchedCocoMetric",
        ann_file=exdark_root + "annotations/exdark_val.json",
        metric="bbox",
        classwise=True,
    )
]
test_evaluators = [dict(val_evaluators[0], ann_file=exdark_root + "annotations/exdark_test.json")]
