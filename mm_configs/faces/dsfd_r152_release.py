"""The network of DSFD's public release, for its checkpoint: 120,058,406 parameters, one set of deep max-in/out heads.

Test it with the release's checkpoint as it is (``mim test mmdet dsfd_r152_release.py --checkpoint FILE``, or
``load_from``). It keeps the best 5,000 scores above 0.01, applies NMS at 0.3, and has no limit after that.
``llie_preproc.faces.VotedFaceDetector(MMDetFaceDetector(this, FILE), "wider")`` adds the release's views and vote.

To train, use ``dsfd_r152_wider-face.py``. This config would start from torchvision's ImageNet weights, which expect
another colour order and scale; the release says nothing about its own training.
"""

_base_ = "dsfd_vgg16_wider-face.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="llie_preproc.DSFDResNet",
        depth=152,
        base_channels=64,
        norm_eval=False,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet152"),
    ),
    neck=dict(
        in_channels=(256, 512, 1024, 2048),
        extra_channels=((512, 512), (128, 256)),
        extra_norm_cfg=dict(type="BN"),
        l2_norm=None,
        fpn_levels=3,
        fpn_relu=False,
        fem="tree",
        fem_width=256,
        align_corners=True,
    ),
    bbox_head=dict(
        form="deep_mio",
        in_channels=(512, 512, 512, 512, 512, 512),
        feat_channels=256,
        bbox_coder=dict(type="mmdet.DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2), clip_border=False),
    ),
    test_cfg=dict(max_per_img=5000, clip_priors=True),
)
