"""Enhancement inside MMDetection 3.x: three doors, one function."""

from ..errors import needs

with needs("llie_preproc.detection"):
    from ..mm import finder
    from .config import add_enhancer
    from .data_preprocessor import EnhancedDetDataPreprocessor
    from .detector import EnhancedDetector
    from .gamma_shift import GammaShift
    from .hooks import EnhancedVisualizationHook
    from .pairs import PackPairedDetInputs
    from .transforms import Enhance, RestoreScaleFactor


finder.repair_mmdet()

__all__ = [
    "Enhance",
    "EnhancedDetDataPreprocessor",
    "EnhancedDetector",
    "EnhancedVisualizationHook",
    "GammaShift",
    "PackPairedDetInputs",
    "RestoreScaleFactor",
    "add_enhancer",
]
