"""Masks of SAM vit_b for the labelled faces of DARK FACE, in pictures enhanced by ``$ENHANCER`` (default: PSENet).

Masks have the size of the stored pictures, even if the enhancer enlarges.
"""

_base_ = ["sam_vit-b_darkface-labels.py", "../_base_/enhancers/{{$ENHANCER:psenet}}.py"]

work_dir = "work_dirs/sam_vit-b_darkface-labels_{{$ENHANCER:psenet}}"
model = dict(
    _delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, enhancer=_base_.enhancer
)
test_evaluator = dict(outfile_prefix="work_dirs/segmentation/darkface_{{$ENHANCER:psenet}}")
