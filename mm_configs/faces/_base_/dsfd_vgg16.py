"""DSFD in the paper's form on VGG-16: 49,793,432 parameters, and 34,125 anchors of each shot at 640x640.

It has two shots, the feature enhance module with three branches of dilation 3, and five fusions from the top. The
backbone starts from the ImageNet weights of Caffe's VGG-16. These were trained on BGR pictures, from which the means
below were subtracted, without any division. The other layers start from Xavier's initialisation.
"""

model = dict(
    type="llie_preproc.DSFD",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[104.0, 117.0, 123.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=False
    ),
    backbone=dict(
        type="llie_preproc.DSFDVGG",
        widths=(64, 128, 256, 512, 512),
        fc_width=1024,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://vgg16_caffe"),
    ),
    neck=dict(
        type="llie_preproc.DSFDNeck",
        in_channels=(256, 512, 512, 1024),
        extra_channels=((256, 512), (128, 256)),
        l2_norm="outputs",
        fpn_levels=5,
        fem="parallel",
    ),
    bbox_head=dict(
        type="llie_preproc.DSFDHead",
        form="plain",
        num_classes=1,
        in_channels=(256, 512, 512, 1024, 512, 256),
        strides=(4, 8, 16, 32, 64, 128),
        anchor_sizes=(16, 32, 64, 128, 256, 512),
        anchor_ratio=1.5,
    ),
    train_cfg=dict(
        assigner=dict(type="llie_preproc.FaceAnchorAssigner", iou_thr=0.4, ignore_iof_thr=0.5),
        sampler=dict(type="PseudoSampler"),
        neg_pos_ratio=3,
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
    ),
    test_cfg=dict(score_thr=0.01, nms_pre=5000, nms=dict(type="nms", iou_threshold=0.3), max_per_img=750),
)
