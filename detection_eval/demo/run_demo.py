"""The run of the whole demo: its parts one after the other, then the report."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc import FrozenEnhancer, InferenceOptions
from llie_preproc.checkpoints import default_weights
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS
from llie_preproc.enhancers.names import enhancer_class, enhancer_config
from llie_preproc.errors import needs, weights_named_by
from llie_preproc.faces import MTCNN, EnhancedFaceDetector, Faces
from llie_preproc.files import atomic_write
from llie_preproc.pictures import Picture, write_picture

with needs("llie demo", "demo"):
    from ..faces.retention import REFERENCE_SCORE
    from ..shared import provenance
    from ..shared.page.html_blocks import Html, write_report
    from . import light, night_scenes, photographs
    from .gamma_sweep import Sweep, sweep
    from .report_sections import (
        ENHANCED,
        detector_section,
        faces_section,
        gallery_section,
        light_section,
        summary_section,
    )
    from .small_detector import RAW, Budget, compare_protocols, detector_config

_VERSIONS = ("torch", "torchvision", "mmengine", "mmcv", "mmdet", "numpy", "skimage", "matplotlib")
_REAL_GALLERIES = {
    "ExDark": ("exdark/images", "Real night photographs."),
    "DARK FACE": ("darkface_samples", "Real streets at night; blue: what MTCNN finds."),
    "LIME": ("unpaired/LIME", "Real dark photographs."),
}
_GALLERY_SIZE = 6


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo.

    Attributes:
        out: Folder to write into.
        enhancer: Name or config file of the enhancer; ``@`` and weights may follow.
        device: Device of the enhancer and of the face detector. MMEngine chooses the device of the small detector.
        real: Folder of real data; None for the photographs that come with scikit-image.
        seed: Seed of noise, scenes and training.
        options: Options that the enhancer runs with.
        budget: Budget of the small detector.
    """

    out: Path
    enhancer: str = "psenet"
    device: str = "cpu"
    real: Path | None = None
    seed: int = 0
    options: InferenceOptions = InferenceOptions()  # noqa: RUF009  (it is frozen)
    budget: Budget = field(default_factory=Budget)


@dataclass
class _Progress:
    """Results, times and sections of the parts that have run."""

    results: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    sections: list[Html] = field(default_factory=list)

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = round(time.perf_counter() - start, 1)


def run_demo(options: DemoOptions) -> Path:
    """Run the demo, and return the path of the report.

    The folder of the report also gets ``results.json``, and ``before_after.jpg`` if no ``real`` data is given.

    Raises:
        MissingExtraError: The extra ``demo`` is not installed.
        ValueError: The enhancer changes the size of pictures.
        FileNotFoundError: There are no such weights, or no pictures in the folder ``real``.
    """
    with weights_named_by("--enhancer NAME@WEIGHTS"):
        enhancer = FrozenEnhancer(options.enhancer, options.options, device=options.device)
    if enhancer.scale != 1:
        raise ValueError(
            f"the demo compares pixel by pixel and needs an enhancer of scale 1; {type(enhancer.enhancer).__name__} "
            f"enlarges by {enhancer.scale}"
        )
    progress = _Progress()
    (_embedded if options.real is None else _real)(options, enhancer, progress)
    return _write(options, progress)


def _embedded(options: DemoOptions, enhancer: FrozenEnhancer, progress: _Progress) -> None:
    with progress.timed("exposures"):
        originals = {name: photographs.sample(name) for name in light.PHOTOGRAPHS}
        relit = light.relight(originals, enhancer, options.seed)
        sensor = (
            f"shot noise of {light.SENSOR.full_well:g} electrons at white, read noise of {light.SENSOR.read_noise:g}"
        )
        progress.sections.append(light_section(originals, relit, sensor, f"Pictures: {photographs.LICENCES}"))
        progress.results["psnr_ssim"] = {n: {e: r.quality for e, r in pair.items()} for n, pair in relit.items()}
        picture = Picture(light.before_after(relit[light.PHOTOGRAPHS[0]]))
        write_picture(options.out / "before_after.jpg", picture, quality=88)
    with progress.timed("faces"):
        source = (
            "the faces in scikit-image: the astronaut, and 100 grey faces of LFW, enlarged three times from 25x25 "
            "pixels and laid out on sheets of 25"
        )
        _faces(photographs.face_sheets(), source, options, enhancer, progress)
    with progress.timed("detector"):
        _detector(options, enhancer, progress)


def _real(options: DemoOptions, enhancer: FrozenEnhancer, progress: _Progress) -> None:
    root = options.real or Path()
    with progress.timed("faces"):
        crowds = photographs.folder_photographs(root / "faces" / "unlabelled")
        _faces(crowds, f"{len(crowds)} photographs of crowds", options, enhancer, progress)
    with progress.timed("photographs"):
        for title, (folder, text) in _REAL_GALLERIES.items():
            pictures = photographs.folder_photographs(root / folder, _GALLERY_SIZE)
            pairs = {n: (p, enhancer(p)) for n, p in tqdm(pictures.items(), desc=f"enhancing {title}", unit="picture")}
            found = _found_faces(pairs, options.device) if title == "DARK FACE" else {}
            progress.sections.append(gallery_section(title, text, pairs, found))
            if found:
                progress.results["darkface_detections"] = {n: [len(f) for f in both] for n, both in found.items()}


def _faces(
    pictures: Mapping[str, np.ndarray], source: str, options: DemoOptions, enhancer: FrozenEnhancer, progress: _Progress
) -> None:
    mtcnn = MTCNN(device=options.device)
    behind = EnhancedFaceDetector(mtcnn, enhancer.enhancer, **options.options.keywords())
    result = sweep(pictures, mtcnn, {RAW: mtcnn, ENHANCED: behind})
    progress.sections.append(faces_section(pictures, result, enhancer, source))
    progress.results["face_retention"] = {
        "reference_faces": result.total,
        **{name: {f"{g:g}": share for g, share in row.items()} for name, row in result.rows().items()},
    }
    _print_retention(result)


def _found_faces(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], device: str) -> dict[str, tuple[Faces, Faces]]:
    mtcnn = MTCNN(device=device)
    found = {}
    for name, pair in pairs.items():
        raw, enhanced = (faces.above(REFERENCE_SCORE) for faces in mtcnn.detect(pair))
        found[name] = raw, enhanced
    return found


def _detector(options: DemoOptions, enhancer: FrozenEnhancer, progress: _Progress) -> None:
    budget = options.budget
    comparison = compare_protocols(options.out, options.enhancer, options.options, options.device, options.seed, budget)
    iterations = budget.iterations or detector_config().max_iters
    text = (
        f"Faster R-CNN (half-width ResNet-18, from scratch, {iterations} batches of 8) on scenes that are made of real "
        f"cut-outs and textures and photographed at night by the simulated camera: {budget.train_scenes} scenes for "
        f"training, {budget.val_scenes} for evaluation, {night_scenes.SIZE} pixels a side, {len(night_scenes.CLASSES)} "
        "classes. Raw: trained and evaluated on the night pictures. Zero-shot: that detector, evaluated on enhanced "
        "pictures. Retrained: trained and evaluated on enhanced pictures, with the same budget and seed. The raw "
        "detector has only seen dark pictures in its training, as the zero-shot row shows; a detector that was trained "
        "by daylight is another case. This short training of a small detector shows the protocol; it does not rank "
        "enhancers."
    )
    progress.sections.append(detector_section(comparison, enhancer, text))
    progress.results["detector_ap"] = comparison.scores
    for name, scores in comparison.scores.items():
        print(f"{name:<20}", "  ".join(f"{metric} {100 * value:5.1f} %" for metric, value in scores.items()))


def _print_retention(result: Sweep) -> None:
    rows = result.rows()
    print(f"share of {result.total} reference faces found again when pictures are shifted by I^g")
    print(f"{'g':<22}", *(f"{gamma:>6g}" for gamma in rows[RAW]))
    for name, row in rows.items():
        print(f"{name:<22}", *(f"{share:6.3f}" for share in row.values()))


def _write(options: DemoOptions, progress: _Progress) -> Path:
    settings = {"enhancer": _described(options), "seed": str(options.seed)}
    made = provenance.record(settings, _VERSIONS, options.device)
    made["seconds"] = ", ".join(f"{part} {seconds:g}" for part, seconds in progress.seconds.items())
    lead = (
        f"{_name(options)} before detectors that were not made for the dark. Raw and enhanced rows have the same "
        "pictures and boxes. The numbers are shown as measured."
    )
    path = options.out / "report.html"
    sections = [summary_section(progress.results), *progress.sections]
    write_report(path, "What enhancement does to detection", lead, sections, made)
    saved = {
        **progress.results,
        "seconds": progress.seconds,
        "provenance": made,
        "budget": asdict(options.budget),
    }
    with atomic_write(options.out / "results.json") as file:
        file.write(json.dumps(saved, indent=2).encode() + b"\n")
    return path


def _described(options: DemoOptions) -> str:
    """Describe the enhancer, its weights and its options."""
    name, weights = _name(options), enhancer_config(options.enhancer).get("checkpoint") or DEFAULT_WEIGHTS
    if weights == DEFAULT_WEIGHTS:
        shipped = default_weights(name)
        weights = shipped.name if shipped else "none are shipped"
    settings = "".join(f", {key}: {value}" for key, value in options.options.identity().items())
    return f"{name}, weights: {weights}{settings}"


def _name(options: DemoOptions) -> str:
    return enhancer_class(enhancer_config(options.enhancer)["type"])[0]
