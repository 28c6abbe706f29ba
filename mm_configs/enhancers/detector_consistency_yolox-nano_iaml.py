"""A narrow IAMLUNet (486,526 parameters), trained through a frozen YOLOX-Nano as ``detector_consistency_yolox-nano.py``."""

_base_ = "detector_consistency_yolox-nano.py"

model = dict(enhancer=dict(_delete_=True, type="llie_preproc.IAMLUNet", width=16, depth=3))
