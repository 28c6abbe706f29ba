"""The sections of the demo's report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llie_preproc import FrozenEnhancer
from llie_preproc.faces import Faces
from llie_preproc.gamma_shift import shift_gamma
from llie_preproc.pictures import read_picture

from ..faces.retention import MIN_IOU, REFERENCE_SCORE
from ..shared.page.galleries import Panel, gallery
from ..shared.page.html_blocks import Html, heading, paragraph, section, table
from ..shared.page.overlays import Overlay, enlarged
from ..shared.page.palette import COLOURS
from ..shared.page.svg_plots import bar_panels, line_plot
from ..shared.score_table import ABSENT
from .gamma_sweep import Sweep
from .light import OVER, UNDER, Relit
from .small_detector import RAW, RETRAINED, ZERO_SHOT, Comparison

ENHANCED = "enhanced"
_TRUTH_COLOUR, _FOUND_COLOUR = COLOURS[1], COLOURS[0]
_SHOWN_GAMMAS = (0.1, 0.2, 5.0, 8.0)
_SHOWN_SCORE = 0.5
# Night scenes are enlarged, because boxes and labels would hide such small pictures.
_ZOOM = 3


def summary_section(results: Mapping[str, Any]) -> Html:
    """Write the main results of :mod:`detection_eval.demo.run_demo` in one table."""
    rows = []
    if quality := results.get("psnr_ssim"):
        for exposure in (UNDER, OVER):
            pairs = [photograph[exposure] for photograph in quality.values()]
            means = (np.mean([pair[kind]["psnr"] for pair in pairs]) for kind in (RAW, ENHANCED))
            rows.append([f"PSNR in dB, {exposure}", *(f"{mean:.1f}" for mean in means), ABSENT])
    retention = results["face_retention"]
    for gamma in ("0.1", "0.2", "5", "8"):
        shares = (100 * retention[kind][gamma] for kind in (RAW, ENHANCED))
        rows.append([f"faces found again in % under I^{gamma}", *(f"{share:.0f}" for share in shares), ABSENT])
    if scores := results.get("detector_ap"):
        percent = (100 * scores[protocol]["AP"] for protocol in (RAW, ZERO_SHOT, RETRAINED))
        rows.append(["detector AP in %, night scenes", *(f"{value:.1f}" for value in percent)])
    header = ["measure", "raw", "enhanced", "enhanced, detector retrained"]
    return section("In short", table(header, rows, "Higher is better everywhere"))


def light_section(
    photographs: Mapping[str, np.ndarray], relit: Mapping[str, Mapping[str, Relit]], sensor: str, source: str
) -> Html:
    """Show photographs: the originals, both exposures, and the enhanced results."""
    panels = []
    for name, exposures in relit.items():
        panels.append(Panel(photographs[name], f"{name}: original", f"the photograph {name}"))
        for exposure, pair in exposures.items():
            panels.append(Panel(pair.captured, f"{name}: {exposure}", f"{name}, {exposure}"))
            panels.append(Panel(pair.enhanced, f"{name}: {exposure}, enhanced", f"{name}, {exposure}, enhanced"))
    rows = [
        [name, *(f"{exposures[e].quality[kind]['psnr']:.2f}" for e in (UNDER, OVER) for kind in ("raw", ENHANCED))]
        for name, exposures in relit.items()
    ]
    header = ["photograph", "under: raw", "under: enhanced", "over: raw", "over: enhanced"]
    return section(
        "Too little and too much light",
        paragraph(
            f"{source}. A simulated camera photographs each again: linear light times 2^EV, {sensor}, clipped, and "
            "encoded as sRGB in 8 bits. The enhancer sees only the result."
        ),
        gallery(panels, columns=5, max_side=300),
        table(header, rows, "PSNR against the original, in dB (RGB, full size)"),
    )


def faces_section(pictures: Mapping[str, np.ndarray], sweep: Sweep, enhancer: FrozenEnhancer, source: str) -> Html:
    """Show the faces found again at each gamma: a plot, a table, the first picture and the one with most faces."""
    rows = sweep.rows()
    plotted = {name: rows[name] for name in (RAW, ENHANCED)}
    names = list(pictures)
    shown = dict.fromkeys([names[0], max(names, key=lambda name: len(sweep.reference[name]))])
    panels = [panel for name in shown for panel in _sweep_panels(name, pictures[name], sweep, enhancer)]
    gammas = list(rows[RAW])
    return section(
        "Faces under a gamma sweep",
        paragraph(
            f"MTCNN with its trained weights (facenet-pytorch) on {source}. The pictures are shifted by I^g (below 1 "
            "washes out, above 1 darkens), rounded to 8 bits, and given to the detector raw and enhanced. The "
            f"reference is the {sweep.total} faces that the detector itself finds in the unchanged, raw pictures "
            f"(g = 1) with a confidence above {REFERENCE_SCORE}; no human annotated them. A face is found again if a "
            f"detection overlaps it with an IoU above {MIN_IOU}. The plot, the pictures and the upper rows of the "
            "table count all detections (the detector's own threshold is 0.7); the lower rows of the table count only "
            f"detections above {REFERENCE_SCORE}."
        ),
        line_plot(plotted, "Share of the reference faces found again", "gamma g of I^g", "share", True, (0, 1.05)),
        table(
            ["input", *(f"g = {g:g}" for g in gammas)],
            [[name, *(f"{share:.3f}" for share in row.values())] for name, row in rows.items()],
            f"Share of {sweep.total} reference faces in {len(pictures)} pictures found again, 0 to 1",
        ),
        gallery(panels, columns=4, max_side=420),
    )


def detector_section(comparison: Comparison, enhancer: FrozenEnhancer, description: str) -> Html:
    """Show the average precision of each protocol, and validation pictures with boxes."""
    rows = [[name, *(f"{100 * v:.1f}" for v in scores.values())] for name, scores in comparison.scores.items()]
    header = ["protocol", *next(iter(comparison.scores.values()))]
    by_metric = {name: {k: 100 * v for k, v in scores.items()} for name, scores in comparison.scores.items()}
    panels = [p for name in list(comparison.truth)[:4] for p in _night_panels(name, comparison, enhancer)]
    return section(
        "A detector at night",
        paragraph(description),
        heading("Average precision by protocol"),
        bar_panels(by_metric, "AP in %"),
        table(header, rows, f"COCO average precision in %, {len(comparison.truth)} validation pictures, one seed"),
        paragraph(
            "Validation pictures, each with the detector that was trained on such pictures. Orange: annotated boxes; "
            f"blue: detections with a score above {_SHOWN_SCORE}."
        ),
        gallery(panels, columns=4),
    )


def gallery_section(
    title: str, text: str, pairs: Mapping[str, tuple[np.ndarray, np.ndarray]], faces: Mapping[str, tuple[Faces, Faces]]
) -> Html:
    """Show raw and enhanced pictures side by side, with the faces that were found in them."""
    panels = []
    for name, images in pairs.items():
        found = faces.get(name, (Faces.none(), Faces.none()))
        for kind, image, boxes in zip((RAW, ENHANCED), images, found, strict=True):
            count = f", {_count(boxes)}" if name in faces else ""
            panels.append(Panel(image, f"{name}: {kind}{count}", f"{name}, {kind}", [_faces_overlay(boxes)]))
    return section(title, paragraph(text), gallery(panels, columns=4, max_side=460))


def _sweep_panels(name: str, picture: np.ndarray, sweep: Sweep, enhancer: FrozenEnhancer) -> list[Panel]:
    panels = []
    for gamma in _SHOWN_GAMMAS:
        shifted = shift_gamma(picture, gamma)
        for kind, image in ((RAW, shifted), (ENHANCED, enhancer(shifted))):
            faces = sweep.found[kind][gamma][name]
            caption = f"{name}, g = {gamma:g}, {kind}: {_count(faces)}"
            panels.append(Panel(image, caption, caption, [_faces_overlay(faces)]))
    return panels


def _night_panels(name: str, comparison: Comparison, enhancer: FrozenEnhancer) -> list[Panel]:
    night = read_picture(comparison.val_folder / name).pixels
    truth = Overlay(comparison.truth[name].boxes * _ZOOM, colour=_TRUTH_COLOUR)
    panels = []
    for protocol, image in ((RAW, night), (RETRAINED, enhancer(night))):
        found = comparison.detections[protocol][name]
        sure = [i for i, score in enumerate(found.scores) if score > _SHOWN_SCORE]
        overlay = Overlay(found.boxes[sure] * _ZOOM, [found.labels[i] for i in sure], _FOUND_COLOUR)
        alt = f"night scene {name}, {protocol}, boxes"
        panels.append(Panel(enlarged(image, _ZOOM), f"{name}: {protocol}", alt, [truth, overlay]))
    return panels


def _count(faces: Faces) -> str:
    return f"{len(faces)} face{'' if len(faces) == 1 else 's'}"


def _faces_overlay(faces: Faces) -> Overlay:
    return Overlay(faces.boxes, colour=_FOUND_COLOUR)
