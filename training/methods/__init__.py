"""Training methods, one file each. A method trains any enhancer whose capabilities allow it."""

from llie_preproc.errors import needs

with needs("training.methods"):
    from .bilevel import BilevelAdversarial
    from .mean_teacher import SemiSupervisedMeanTeacher
    from .mirror import MirrorDistillation
    from .progressive import ProgressiveSelfEnhancement
    from .sam_consistency import SamConsistency
    from .supervised import SupervisedTraining

__all__ = [
    "BilevelAdversarial",
    "MirrorDistillation",
    "ProgressiveSelfEnhancement",
    "SamConsistency",
    "SemiSupervisedMeanTeacher",
    "SupervisedTraining",
]
