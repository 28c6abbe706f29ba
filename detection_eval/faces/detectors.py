"""The face detector that a command line names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llie_preproc import InferenceOptions
from llie_preproc.checkpoints import local_file
from llie_preproc.config_doors import find_enhancement
from llie_preproc.errors import needs, one_line
from llie_preproc.faces import EnhancedFaceDetector, FaceDetector
from llie_preproc.files import file_sha256

from ..shared.enhancers import Spec, network_config
from .named_detectors import FACE_DETECTORS

DEFAULT = "mtcnn"
PASSES = ("base", "fddb", "wider")


@dataclass(frozen=True)
class DetectorChoice:
    """Face detector that the command line names.

    Attributes:
        name: Name of a registered detector, such as ``'mtcnn'``, or a config of MMDetection.
        checkpoint: Weights for a config, or for a registered detector that takes some; MTCNN has its own weights.
        passes: Views of a picture that the detector sees, one of :data:`PASSES`: the picture alone, or the views of a
            test protocol with a vote over their detections.
        score_thr: Least confidence of a detection, for a config or a vote. A registered detector without a vote uses
            its own threshold.
        device: Device that the detector runs on.

    Examples:
        >>> DetectorChoice("mtcnn").has_threshold, DetectorChoice("mtcnn", passes="wider").has_threshold
        (False, True)
    """

    name: str
    checkpoint: str | None = None
    passes: str = "base"
    score_thr: float = 0.0
    device: str = "cpu"

    def made_with(self) -> dict[str, Any]:
        """Return everything that the detections depend on, besides the pictures.

        Raises:
            MissingExtraError: A package of the detector is not installed.
            FileNotFoundError: There is no such config or checkpoint.
            ValueError: A registered detector refuses the checkpoint, no checkpoint is given for a config, or the config
                has an enhancer already.
        """
        made_with = self._named_made_with() if self.name in FACE_DETECTORS else self._config_made_with()
        threshold = dict(score_thr=self.score_thr) if self.has_threshold else {}
        return dict(detector=self.name, **made_with, **threshold, passes=self.passes)

    @property
    def has_threshold(self) -> bool:
        """Whether ``score_thr`` has an effect."""
        return self.name not in FACE_DETECTORS or self.passes != PASSES[0]

    def build(self) -> FaceDetector:
        """Build the detector.

        Raises:
            MissingExtraError: The package of the detector is not installed.
            FileNotFoundError, ValueError, CheckpointError: The detector refuses its config or checkpoint.
        """
        if self.passes == PASSES[0]:
            return self._build_base()
        from llie_preproc.faces.voting import VotedFaceDetector

        return VotedFaceDetector(self._build_base(), self.passes, score_thr=self.score_thr)

    def _named_made_with(self) -> dict[str, Any]:
        made_with = FACE_DETECTORS[self.name]().made_with(self._file_for_named())
        return dict(made_with, **({"checkpoint_sha256": self._checkpoint_sha256()} if self.checkpoint else {}))

    def _file_for_named(self) -> str | None:
        """The file of the checkpoint, or None, after a check that the registered detector takes one."""
        if not self.checkpoint:
            return None
        if not FACE_DETECTORS[self.name].takes_checkpoint:
            raise ValueError(f"--detector {self.name} takes no --detector-checkpoint: it brings what it needs")
        return str(self._checkpoint_file())

    def _config_made_with(self) -> dict[str, str]:
        with needs(f"--detector {self.name}"):
            from llie_preproc.config_files import read_config_file
        try:
            config = read_config_file(self.name)
        except FileNotFoundError as error:
            known = ", ".join(FACE_DETECTORS)
            raise FileNotFoundError(f"{one_line(error)}; the detectors that have a name are {known}") from error
        if found := find_enhancement(config):
            raise ValueError(
                f"--detector {self.name} enhances already ({found}): name the plain config, and use --enhancer"
            )
        if not self.checkpoint:
            raise ValueError(f"--detector {self.name} needs a --detector-checkpoint: without it the weights are random")
        return dict(config=config.pretty_text, checkpoint_sha256=self._checkpoint_sha256())

    def _checkpoint_sha256(self) -> str:
        return file_sha256(self._checkpoint_file())

    def _checkpoint_file(self) -> Path:
        try:
            return local_file(str(self.checkpoint))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no file {self.checkpoint}, the --detector-checkpoint of --detector {self.name}"
            ) from error

    def _build_base(self) -> FaceDetector:
        if self.name in FACE_DETECTORS:
            return FACE_DETECTORS[self.name]().build(self._file_for_named(), self.device)
        from llie_preproc.faces.mmdetection import MMDetFaceDetector

        return MMDetFaceDetector(self.name, self.checkpoint, self.device, score_thr=self.score_thr)


def behind(detector: FaceDetector, spec: Spec | None, device: str, options: InferenceOptions) -> FaceDetector:
    """Put a detector behind an enhancer. Each picture is enhanced once, before its views are made.

    Args:
        detector: Detector of faces.
        spec: Description of the enhancer; None for raw.
        device: Device that the enhancer runs on.
        options: Options that the enhancer runs with.
    """
    if spec is None:
        return detector
    return EnhancedFaceDetector(detector, network_config(spec), device=device, **options.keywords())
