"""RetinaNet R50-FPN 1x on ExDark, from an ImageNet backbone; no enhancer."""

_base_ = ["mmdet::_base_/models/retinanet_r50_fpn.py", "../_base_/exdark_1x.py"]

model = dict(
    bbox_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(max_per_img=_base_.max_per_img),
)
# MMDetection's own RetinaNet also has half of the schedule's learning rate.
optim_wrapper = dict(optimizer=dict(lr=0.01))
