"""Faster R-CNN R50-FPN 1x on ExDark, from an ImageNet backbone; no enhancer."""

_base_ = ["mmdet::_base_/models/faster-rcnn_r50_fpn.py", "../_base_/exdark_1x.py"]

model = dict(
    roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)),
    test_cfg=dict(rcnn=dict(max_per_img=_base_.max_per_img)),
)
