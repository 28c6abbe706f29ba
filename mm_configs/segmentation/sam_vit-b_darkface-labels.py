"""Masks of SAM vit_b for the labelled faces of DARK FACE; no enhancer.

There is nothing to train and no checkpoint to pass. The scores are the IoU that SAM predicts.
"""

_base_ = ["_base_/darkface_labels.py", "_base_/sam_vit-b.py"]

model = dict(
    type="llie_preproc.BoxPromptedSAM",
    detector=None,
    sam=_base_.sam,
    # add_enhancer(door="preprocessor") puts the enhancer here.
    data_preprocessor=dict(type="DetDataPreprocessor"),
)
