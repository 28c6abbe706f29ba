"""The face detector that a command line names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

from llie_preproc import InferenceOptions
from llie_preproc.checkpoints import local_file
from llie_preproc.config_doors import find_enhancement
from llie_preproc.errors import needs
from llie_preproc.faces import EnhancedFaceDetector, FaceDetector
from llie_preproc.files import file_sha256

from ..shared.enhancers import Spec, network_config

MTCNN_NAME = "mtcnn"
PASSES = ("base", "fddb", "wider")


@dataclass(frozen=True)
class DetectorChoice:
    """What the command line says of the detector.

    Attributes:
        name: ``'mtcnn'``, or a config of MMDetection.
        checkpoint: Of a config, and only of one.
        passes: One of :data:`PASSES`: the picture as it is, or the views of a test protocol with their vote.
        score_thr: Detections with less confidence are dropped; of a config, or of a vote. MTCNN has its own thresholds.
        device: Where it runs.
    """

    name: str
    checkpoint: str | None = None
    passes: str = "base"
    score_thr: float = 0.0
    device: str = "cpu"

    def made_with(self) -> dict[str, Any]:
        """All that detections depend on.

        Raises:
            MissingExtraError: The package of MTCNN, or one that it needs, is not installed.
            FileNotFoundError: No such config or checkpoint.
            ValueError: A checkpoint with ``mtcnn``, or a config without, or one that enhances.
        """
        if self.name == MTCNN_NAME:
            # It is imported, because it does not import without a package of its own either.
            with needs("--detector mtcnn"):
                import_module("facenet_pytorch")
            if self.checkpoint:
                raise ValueError("--detector-checkpoint is for a CONFIG: mtcnn brings its weights")
            made_with = dict(facenet_pytorch=version("facenet-pytorch"))
        else:
            made_with = self._config_made_with()
        threshold = dict(score_thr=self.score_thr) if self.has_threshold else {}
        return dict(detector=self.name, **made_with, **threshold, passes=self.passes)

    @property
    def has_threshold(self) -> bool:
        """Whether ``score_thr`` is of any effect."""
        return self.name != MTCNN_NAME or self.passes != PASSES[0]

    def build(self) -> FaceDetector:
        """The detector.

        Raises:
            MissingExtraError: Its package is not installed.
            FileNotFoundError, ValueError, CheckpointError: As the detector has it.
        """
        if self.passes == PASSES[0]:
            return self._build_base()
        from llie_preproc.faces.voting import VotedFaceDetector

        return VotedFaceDetector(self._build_base(), self.passes, score_thr=self.score_thr)

    def _config_made_with(self) -> dict[str, str]:
        with needs(f"--detector {self.name}"):
            from llie_preproc.config_files import read_config_file
        config = read_config_file(self.name)
        if found := find_enhancement(config):
            raise ValueError(
                f"--detector {self.name} enhances already ({found}): faces takes the plain config and --enhancer"
            )
        if not self.checkpoint:
            raise ValueError(f"--detector {self.name} needs a --detector-checkpoint: without it the weights are random")
        try:
            checkpoint = local_file(self.checkpoint)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no file {self.checkpoint}, the --detector-checkpoint of --detector {self.name}"
            ) from error
        return dict(config=config.pretty_text, checkpoint_sha256=file_sha256(checkpoint))

    def _build_base(self) -> FaceDetector:
        if self.name == MTCNN_NAME:
            from llie_preproc.faces import MTCNN

            return MTCNN(device=self.device)
        from llie_preproc.faces.mmdetection import MMDetFaceDetector

        return MMDetFaceDetector(self.name, self.checkpoint, self.device, score_thr=self.score_thr)


def behind(detector: FaceDetector, spec: Spec | None, device: str, options: InferenceOptions) -> FaceDetector:
    """The detector behind an enhancer, which each picture passes once, before any views of it are made.

    Args:
        detector: The detector.
        spec: Enhancer's spec; None: raw.
        device: Device where the enhancer runs.
        options: How the enhancer is run.
    """
    if spec is None:
        return detector
    return EnhancedFaceDetector(detector, network_config(spec), device=device, **options.keywords())
