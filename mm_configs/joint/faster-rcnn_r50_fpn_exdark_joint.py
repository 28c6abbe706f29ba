"""Faster R-CNN R50-FPN from COCO and the enhancer ``$ENHANCER`` (default: PSENet), trained together on ExDark.

You must provide the checkpoint of MMDetection's model zoo, as ``load_from`` or by the environment variable
``COCO_CHECKPOINT``. The layers that tell the classes apart start from random weights.
"""

_base_ = [
    "mmdet::_base_/models/faster-rcnn_r50_fpn.py",
    "../_base_/exdark.py",
    "../_base_/resize.py",
    "../_base_/joint/run.py",
    "../_base_/enhancers/{{$ENHANCER:psenet}}.py",
]

work_dir = "work_dirs/faster-rcnn_r50_fpn_exdark_joint_{{$ENHANCER:psenet}}"
# The backbone downloads no weights, because the checkpoint has them.
_base_.model.backbone.init_cfg = None
_base_.model.roi_head.bbox_head.num_classes = _base_.num_classes
_base_.model.test_cfg.rcnn.max_per_img = _base_.max_per_img
model = dict(
    _delete_=True,
    type="llie_preproc.EnhancedDetector",
    detector={{_base_.model}},
    enhancer=_base_.enhancer,
    checkpointing=_base_.get("checkpointing", False),
    trainable=True,
)
load_from = "{{$COCO_CHECKPOINT:weights/faster_rcnn_r50_fpn_1x_coco_20200130-047c8118.pth}}"

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
