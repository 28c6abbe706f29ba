"""Words of the command lines that finetune and split, which their help shows without MMDetection."""

from __future__ import annotations

PRESETS = ("frozen", "joint", "staged", "enhancer-only")
LOSSES = {
    "fidelity": "llie_preproc.FidelityLoss",
    "exposure": "llie_preproc.ExposureLoss",
    "smoothness": "llie_preproc.MapSmoothnessLoss",
    "self-enhancement": "llie_preproc.SelfEnhancementLoss",
}

DETECTOR, ENHANCER = "detector.pth", "enhancer.safetensors"
"""The parts of a finetuned checkpoint."""
