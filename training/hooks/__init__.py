"""Hooks of the trainings, one a file; importing this package registers them."""

from .average_statistics import AverageStatistics
from .enhanced_samples import EnhancedSamples
from .epoch_seed import EpochSeed
from .export_enhancer import ExportEnhancer
from .iteration_seed import IterationSeed
from .method_checkpoint_hook import MethodCheckpointHook

__all__ = [
    "AverageStatistics",
    "EnhancedSamples",
    "EpochSeed",
    "ExportEnhancer",
    "IterationSeed",
    "MethodCheckpointHook",
]
