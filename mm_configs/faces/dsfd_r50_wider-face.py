"""DSFD (the paper's form) on ResNet-50, trained on WIDER FACE.

This project chose torchvision's ImageNet weights, with the colour order and scale with which they were trained, and
keeps the statistics of the backbone's batch normalisation.
"""

_base_ = "dsfd_vgg16_wider-face.py"

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type="llie_preproc.DSFDResNet",
        depth=50,
        base_channels=64,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    neck=dict(in_channels=(256, 512, 1024, 2048), l2_norm=None),
    bbox_head=dict(in_channels=(256, 512, 1024, 2048, 512, 256)),
)
