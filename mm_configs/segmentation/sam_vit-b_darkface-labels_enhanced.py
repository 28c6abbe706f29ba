"""Masks of SAM vit_b for the labelled faces of DARK FACE, pictures enhanced by PSENet; the shipped weights."""

_base_ = "sam_vit-b_darkface-labels.py"

model = dict(_delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, enhancer="PSENet")
test_evaluator = dict(outfile_prefix="work_dirs/segmentation/darkface_psenet")
