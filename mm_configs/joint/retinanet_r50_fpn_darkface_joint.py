"""RetinaNet R50-FPN on DARK FACE, from COCO; pictures as they are.

``load_from`` is yours to provide, or to name by the environment variable ``COCO_CHECKPOINT``: MMDetection's model zoo
has it. The layers that tell the classes apart begin anew.
"""

_base_ = [
    "mmdet::_base_/models/retinanet_r50_fpn.py",
    "../../faces/_base_/darkface_train.py",
    "../resize.py",
    "run.py",
]

model = dict(
    backbone=dict(init_cfg=None),
    bbox_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(max_per_img=_base_.max_per_img),
)
load_from = "{{$COCO_CHECKPOINT:weights/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth}}"

train_dataloader = dict(
    **_base_.train_loader, dataset=dict(**_base_.train_set, pipeline=_base_.load + _base_.train_transforms)
)
val_dataloader = dict(
    **_base_.test_loader, dataset=dict(**_base_.val_set, pipeline=_base_.load_image + _base_.test_transforms)
)
test_dataloader = dict(
    **_base_.test_loader, dataset=dict(**_base_.test_set, pipeline=_base_.load_image + _base_.test_transforms)
)
val_evaluator = _base_.val_evaluators
test_evaluator = _base_.test_evaluators
