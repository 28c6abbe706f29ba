"""Words for the help of the commands that finetune and split, which must work without MMDetection."""

from __future__ import annotations

PRESETS = ("frozen", "joint", "staged", "enhancer-only")
LOSSES = {
    "fidelity": "llie_preproc.FidelityLoss",
    "exposure": "llie_preproc.ExposureLoss",
    "smoothness": "llie_preproc.MapSmoothnessLoss",
    "self-enhancement": "llie_preproc.SelfEnhancementLoss",
}

DETECTOR, ENHANCER = "detector.pth", "enhancer.safetensors"
"""Names of the files of the two parts of a finetuned checkpoint."""
