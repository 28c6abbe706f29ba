"""Enhancement inside MMDetection 3.x: in the pipeline, in the data preprocessor, or in a wrapper of the detector.

These three places are called doors. All doors call the same function.
"""

from ..errors import needs

with needs("llie_preproc.detection"):
    from ..mm import finder
    from .data_preprocessor import EnhancedDetDataPreprocessor
    from .enhanced_config import add_enhancer
    from .enhanced_detector import EnhancedDetector
    from .gamma_shift_transform import GammaShift
    from .pack_paired import PackPairedDetInputs
    from .photograph_transform import Photograph
    from .transforms import Enhance, RestoreScaleFactor
    from .visualization import EnhancedVisualizationHook


finder.repair_mmdet()

__all__ = [
    "Enhance",
    "EnhancedDetDataPreprocessor",
    "EnhancedDetector",
    "EnhancedVisualizationHook",
    "GammaShift",
    "PackPairedDetInputs",
    "Photograph",
    "RestoreScaleFactor",
    "add_enhancer",
]
