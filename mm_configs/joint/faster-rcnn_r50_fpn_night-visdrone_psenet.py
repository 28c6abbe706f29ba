"""Faster R-CNN R50-FPN from COCO and PSENet before it, trained together on night VisDrone."""

_base_ = ["../_base_/joint/faster-rcnn_r50_fpn_night-visdrone.py", "../_base_/joint/psenet.py"]

model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, trainable=True, **_base_.enhancer
)
