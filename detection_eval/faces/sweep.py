"""A sweep over enhancers and gammas. Only the pictures that succeed with all of them are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from llie_preproc import InferenceOptions
from llie_preproc.faces import FaceDetector, Faces
from llie_preproc.gamma_shift import exponent

from ..shared.enhancers import NONE, Spec, identity_of
from ..shared.resume import digests_of, holds_files, require_resume, require_some
from .detectors import DetectorChoice, behind
from .kept_detections import Kept, detect
from .protocols import Evaluation, Protocol

Cell = tuple[str, float]
"""Label of an enhancer (``'none'`` for raw), and a gamma."""
_REFERENCE: Cell = (NONE, 1.0)


@dataclass(frozen=True)
class Request:
    """Settings of a sweep.

    Attributes:
        protocol: Data set, with the rules that score detections.
        detector: Face detector.
        enhancers: Labels in the order of the rows, ``'none'`` for raw.
        specs: Descriptions of the other enhancers (:func:`detection_eval.shared.enhancers.enhancer_specs`), by label.
        gammas: Gammas in rising order.
        convention: Meaning of gamma, as for :func:`llie_preproc.gamma_shift.shift_gamma`.
        folder: Folder for all results.
        options: Options that the enhancers run with. Their batch size is also that of the detector.
        resume: Whether to keep the detections of an earlier run in the folder, and to make only the others.
    """

    protocol: Protocol
    detector: DetectorChoice
    enhancers: Sequence[str]
    specs: Mapping[str, Spec]
    gammas: Sequence[float]
    convention: str
    folder: Path
    options: InferenceOptions = InferenceOptions()  # noqa: RUF009  (it is frozen)
    resume: bool = False

    @property
    def cells(self) -> list[Cell]:
        """Enhancers and gammas of all rows, in their order."""
        return [(enhancer, gamma) for enhancer in self.enhancers for gamma in self.gammas]

    @property
    def detections(self) -> Path:
        """Folder of the kept detections."""
        return self.folder / "detections"

    def kept(self, cell: Cell) -> Kept:
        """Read the kept detections of a cell.

        Raises:
            ValueError: They were made with other settings, or their file is damaged.
        """
        enhancer, gamma = cell
        own = identity_of(self.specs.get(enhancer))
        made_with = dict(self.detector.made_with(), exponent=exponent(gamma, self.convention), **own)
        return Kept(self.detections / enhancer / f"gamma_{gamma:g}.npz", made_with)


@dataclass
class Sweep:
    """Result of a sweep.

    Attributes:
        names: Names of the pictures that were measured, the same for all cells.
        found: Detections in these pictures, by cell and name.
        evaluations: Scores, by cell.
        failed: Message for each picture that is left out.
    """

    names: list[str]
    found: dict[Cell, dict[str, Faces]]
    evaluations: dict[Cell, Evaluation] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def sweep(request: Request) -> Sweep:
    """Detect the faces of the pictures that have no kept detections yet, and score all detections.

    Raises:
        ValueError: The folder has detections of an earlier run and ``resume`` is false, kept detections were made with
            other settings or are damaged, or no picture could be processed.
        OSError: The folder cannot be written to.
        MissingExtraError, CheckpointError, FileNotFoundError: The detector cannot be built.
    """
    require_resume(request.folder, holds_files(request.detections), request.resume)
    protocol = request.protocol
    cells = list(dict.fromkeys([*([_REFERENCE] if protocol.refers_to_raw else []), *request.cells]))
    kept = {cell: request.kept(cell) for cell in cells}
    detector = request.detector.build()
    # A folder that cannot be written to must fail now, not after hours of work.
    request.detections.mkdir(parents=True, exist_ok=True)
    digests, failed = digests_of(protocol.files)
    for cell in cells:
        # A picture that failed once is left out of all rows.
        digests = {name: digest for name, digest in digests.items() if name not in failed}
        failed |= _detect(request, cell, kept[cell], digests, detector)
    names = [name for name in protocol.files if name not in failed]
    require_some(names, len(protocol.files), failed)
    found = {cell: {name: kept[cell].faces[name] for name in names} for cell in cells}
    if protocol.refers_to_raw:
        protocol.refer_to(found[_REFERENCE])
    result = Sweep(names, {cell: found[cell] for cell in request.cells})
    result.failed = [*protocol.problems, *failed.values()]
    for cell in tqdm(request.cells, desc="measuring", unit="row", delay=2):
        result.evaluations[cell] = protocol.evaluate(names, found[cell])
    return result


def _detect(
    request: Request, cell: Cell, kept: Kept, digests: Mapping[str, str], detector: FaceDetector
) -> dict[str, str]:
    if not kept.lacking(digests):
        return {}
    enhancer, gamma = cell
    seeing = behind(detector, request.specs.get(enhancer), request.detector.device, request.options)
    return detect(
        kept, request.protocol.files, digests, seeing, gamma, request.convention, request.options.batch_size,
        f"{enhancer}, g = {gamma:g}",
    )  # fmt: skip
