"""MMDetection's Faster R-CNN behind a frozen PSENet: the three lines that any config takes.

COCO weights of the plain detector load into it (``load_from``, or the checkpoint of ``init_detector``).
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"

custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)
model = dict(_delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, enhancer="PSENet")
