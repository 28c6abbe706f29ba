"""Masks of SAM vit_b for the objects that Faster R-CNN finds on ExDark; no enhancer.

Test it with an unchanged checkpoint of ``mm_configs/detection/faster-rcnn_r50_fpn_1x_exdark.py``. The AP is that of the
boxes, as ExDark has no masks; the masks go to ``work_dirs/segmentation/exdark.segm.json``.
"""

_base_ = ["../detection/faster-rcnn_r50_fpn_1x_exdark.py", "_base_/sam_vit-b.py"]

model = dict(
    _delete_=True,
    type="llie_preproc.BoxPromptedSAM",
    detector={{_base_.model}},
    sam={{_base_.sam}},
    # There are many boxes with lower scores, and each would need a mask.
    score_thr=0.05,
    # add_enhancer(door="preprocessor") puts the enhancer here.
    data_preprocessor=dict(type="DetDataPreprocessor"),
)
test_evaluator = [dict(_base_.test_evaluators[0], outfile_prefix="work_dirs/segmentation/exdark")]
val_evaluator = [dict(_base_.val_evaluators[0], outfile_prefix="work_dirs/segmentation/exdark_val")]
