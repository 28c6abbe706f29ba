"""Enhancement inside MMDetection 3.x: three doors, one function."""

from ..errors import require

require("mmdet", "llie_preproc.detection")

from ..mm import finder  # noqa: E402
from .config import add_enhancer  # noqa: E402
from .data_preprocessor import EnhancedDetDataPreprocessor  # noqa: E402
from .detector import EnhancedDetector  # noqa: E402
from .gamma_shift import GammaShift  # noqa: E402
from .hooks import EnhancedVisualizationHook  # noqa: E402
from .pairs import PackPairedDetInputs  # noqa: E402
from .transforms import Enhance, RestoreScaleFactor  # noqa: E402

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
