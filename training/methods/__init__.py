"""Training methods, one file each. A method trains any enhancer whose capabilities allow it.

Every file of this folder is imported, so a new file that registers its method is found without being named elsewhere.
"""

from llie_preproc.errors import needs
from llie_preproc.registry import import_modules

with needs("training.methods"):
    from .bilevel import BilevelAdversarial
    from .detector_consistency import DetectorConsistency
    from .mean_teacher import SemiSupervisedMeanTeacher
    from .mirror import MirrorDistillation
    from .progressive import ProgressiveSelfEnhancement
    from .sam_consistency import SamConsistency
    from .supervised import SupervisedTraining

    import_modules(__name__, __path__)

__all__ = [
    "BilevelAdversarial",
    "DetectorConsistency",
    "MirrorDistillation",
    "ProgressiveSelfEnhancement",
    "SamConsistency",
    "SemiSupervisedMeanTeacher",
    "SupervisedTraining",
]
