"""The DSFD of ``dsfd_vgg16_wider-face.py`` behind a frozen PSENet, zero-shot.

A checkpoint of the plain detector loads into it.
"""

_base_ = "dsfd_vgg16_wider-face.py"

model = dict(_delete_=True, type="llie_preproc.EnhancedDetector", detector={{_base_.model}}, enhancer="PSENet")
