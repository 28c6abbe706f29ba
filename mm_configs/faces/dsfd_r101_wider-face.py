"""DSFD (the paper's form) on ResNet-101, trained on WIDER FACE; all else is as on ResNet-50."""

_base_ = "dsfd_r50_wider-face.py"

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")),
)
