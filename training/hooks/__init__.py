"""Hooks of the trainings, one in each file.

Every file of this folder is imported, so a new file that registers something is found without being named elsewhere.
"""

from llie_preproc.registry import import_modules

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

import_modules(__name__, __path__)
