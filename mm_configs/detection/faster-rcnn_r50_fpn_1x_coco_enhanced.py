"""MMDetection's Faster R-CNN behind a frozen enhancer, ``$ENHANCER`` (default: PSENet).

The same lines work for any config of a detector. COCO weights of the plain detector load into this one (``load_from``,
or the checkpoint of ``init_detector``).
"""

_base_ = ["mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", "../_base_/enhancers/{{$ENHANCER:psenet}}.py"]

work_dir = "work_dirs/faster-rcnn_r50_fpn_1x_coco_{{$ENHANCER:psenet}}"
custom_imports = dict(imports=["llie_preproc"], allow_failed_imports=False)
model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, enhancer=_base_.enhancer
)
