"""Masks of SAM vit_b for the labelled faces of DARK FACE, pictures enhanced and enlarged by CollaBA x2.

Masks come out in the stored pictures' frame. ``weights/collaba_x2.safetensors`` is yours to provide: what
``mm_configs/enhancers/collaba_x2_rellisur.py`` trains.
"""

_base_ = "sam_vit-b_darkface-labels.py"

model = dict(
    _delete_=True,
    type="llie_preproc.EnhancedDetector",
    detector={{_base_.model}},
    enhancer=dict(type="CollaBA", scale=2),
    checkpoint="weights/collaba_x2.safetensors",
)
test_evaluator = dict(outfile_prefix="work_dirs/segmentation/darkface_collaba-x2")
