"""Faster R-CNN R50-FPN from COCO and CollaBA x2 before it, trained together on ExDark."""

_base_ = ["../_base_/joint/faster-rcnn_r50_fpn_exdark.py", "../_base_/joint/collaba_x2.py"]

model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, trainable=True, **_base_.enhancer
)
