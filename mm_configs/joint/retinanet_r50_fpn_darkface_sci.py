"""RetinaNet R50-FPN from COCO and SCI before it, trained together on DARK FACE."""

_base_ = ["../_base_/joint/retinanet_r50_fpn_darkface.py", "../_base_/joint/sci.py"]

model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, trainable=True, **_base_.enhancer
)
