"""The page of a sweep: tables, a plot like Fig. 11 of the PSENet paper, and pictures with boxes like its Fig. 12."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from llie_preproc import FrozenEnhancer
from llie_preproc.faces import Faces

from ..metrics.fddb import FddbRoc
from ..shared.enhancers import NONE, frozen_enhancers, label_of
from ..shared.page.galleries import Panel, chosen_pictures, pictures_section
from ..shared.page.html_blocks import Html, bullets, captioned, left_out, paragraph, section, write_report
from ..shared.page.overlays import Overlay
from ..shared.page.palette import COLOURS
from ..shared.page.svg_plots import line_plot
from ..shared.score_table import Row
from .kept_detections import shifted_picture
from .protocols import Protocol
from .protocols.folder_retention import Folder
from .retention import count_found
from .sweep import Cell, Request, Sweep
from .sweep_results import difference_table, gamma_label, score_table, series

_FOUND, _TRUTH = COLOURS[0], COLOURS[1]
_DASH = 5
_MAX_SIDE = 480


def score_plot(protocol: Protocol, rows: Sequence[Row], convention: str) -> Html:
    """Plot the headline score against gamma, with a line for each enhancer."""
    lines = series(rows, protocol.headline)
    top = max((value for line in lines.values() for value in line.values() if value == value), default=1.0)
    label = gamma_label(convention)
    title = f"{protocol.title}: {_axis(protocol)}"
    return line_plot(
        lines, title, label, _axis(protocol), log_x=True, y_range=(0, 1.05 if top > 0.5 else 1.2 * top or 1)
    )


def write_page(request: Request, result: Sweep, rows: Sequence[Row], provenance: Mapping[str, str]) -> Path:
    """Write ``report.html``, and return its path."""
    protocol = request.protocol
    faces = sum(len(protocol.faces(name)) for name in result.names)
    lead = (
        f"{request.detector.name} on {len(result.names)} pictures with {faces} {protocol.reference_kind} "
        f"({protocol.title}). The pictures are shifted to too little and too much light and rounded to 8 bits. Raw and "
        "enhanced rows have the same detector, the same pictures and the same boxes."
    )
    sections = [_scores_section(request, result, rows)]
    rocs = {cell: each.roc for cell, each in result.evaluations.items() if each.roc is not None}
    if rocs:
        sections.append(_roc_section(request, rocs))
    sections.append(_pictures_section(request, result))
    path = request.folder / "report.html"
    write_report(path, "Faces in extreme light", lead, sections, provenance)
    return path


def choose_pictures(protocol: Protocol, result: Sweep) -> dict[str, str]:
    """Choose the picture with most faces, and those that gained and lost most faces at the extreme gammas.

    Gains are sums over all enhancers, so that one choice of pictures shows all of them.

    Returns:
        Reason for the choice, by the picture's name.
    """
    count = {name: len(protocol.faces(name)) for name in result.names}
    return chosen_pictures(count, "faces", _gains(protocol, result), "faces")


def _gains(protocol: Protocol, result: Sweep) -> dict[str, int]:
    extremes = _extremes([gamma for _, gamma in result.found])
    enhanced = [cell for cell in result.found if cell[0] != NONE and cell[1] in extremes]
    if not enhanced or (NONE, extremes[0]) not in result.found:
        return {}
    return {
        name: sum(
            _hits(protocol, result, cell, name) - _hits(protocol, result, (NONE, cell[1]), name) for cell in enhanced
        )
        for name in result.names
    }


def _scores_section(request: Request, result: Sweep, rows: Sequence[Row]) -> Html:
    protocol = request.protocol
    tables = [captioned(score_table(rows, score, protocol.digits), _caption(score)) for score in rows[0]["scores"]]
    differences = difference_table(rows, protocol.headline, protocol.digits)
    if len(differences) > 1:
        interval = ", with the 95 % interval of a bootstrap over pictures" if "[" in differences[1][1] else ""
        tables.append(captioned(differences, f"{protocol.headline}, minus raw at the same gamma{interval}"))
    return section(
        "Scores",
        score_plot(protocol, rows, request.convention),
        *tables,
        bullets(protocol.notes()),
        *left_out(result.failed),
    )


def _caption(score: str) -> str:
    if score == "unmatched":
        return f"{score}, as a share of the reference faces, lower is better"
    return f"{score}, 0 to 1, higher is better"


def _roc_section(request: Request, rocs: Mapping[Cell, FddbRoc]) -> Html:
    blocks = []
    limit = 2 * max(getattr(request.protocol, "false_positives", [0]))
    for gamma in dict.fromkeys([*_extremes(request.gammas), *([1.0] if 1.0 in request.gammas else [])]):
        lines = {label_of(e): _points(roc, limit) for (e, g), roc in rocs.items() if g == gamma}
        title = f"Discrete ROC at g = {gamma:g}"
        blocks.append(line_plot(lines, title, "false positives", "true positive rate", marks=6))
    return section(
        "ROC",
        paragraph(f"Up to {limit} false positives. The folder roc has the whole curves in the official layout."),
        *blocks,
    )


def _points(roc: FddbRoc, limit: int) -> dict[float, float]:
    """Return the rates by rising false positives; of points with equal false positives, the highest counts."""
    points: dict[float, float] = {}
    for false, rate in zip(roc.false_positives.tolist(), roc.discrete.tolist(), strict=True):
        if false <= limit:
            points[false] = max(rate, points.get(false, 0.0))
    return dict(sorted(points.items()))


def _pictures_section(request: Request, result: Sweep) -> Html:
    protocol = request.protocol
    enhancers = frozen_enhancers(request.specs, request.options, request.detector.device)
    legend = (
        f"Blue: detections with a confidence above {protocol.shown_score:g}. Orange, dashed: the "
        f"{protocol.reference_kind}. Below each picture: the number of these faces that a drawn detection finds with "
        "an IoU above 0.5, and the number of drawn detections that find none of them."
    )

    def rows(name: str) -> list[list[Panel]]:
        return [
            [_panel(request, result, enhancers.get(e), (e, gamma), name) for e in request.enhancers]
            for gamma in _extremes(request.gammas)
        ]

    return pictures_section(legend, choose_pictures(protocol, result), rows, _MAX_SIDE)


def _panel(request: Request, result: Sweep, enhancer: FrozenEnhancer | None, cell: Cell, name: str) -> Panel:
    protocol, scale = request.protocol, 1
    image = shifted_picture(protocol.files[name], cell[1], request.convention)
    if enhancer is not None:
        image, scale = enhancer(image), enhancer.scale
    found = result.found[cell][name].above(protocol.shown_score)
    truth = protocol.faces(name)
    overlays = [
        Overlay(found.boxes * scale, colour=_FOUND),
        Overlay(np.asarray(truth) * scale, colour=_TRUTH, dash=_DASH),
    ]
    hits, false = _hits(protocol, result, cell, name), len(found) - count_found(found, _as_faces(truth))
    caption = f"g = {cell[1]:g}, {label_of(cell[0])}: {hits} of {len(truth)} faces, {false} other"
    return Panel(image, caption, f"{name}, {caption}", overlays)


def _hits(protocol: Protocol, result: Sweep, cell: Cell, name: str) -> int:
    found = result.found[cell][name].above(protocol.shown_score)
    return count_found(_as_faces(protocol.faces(name)), found)


def _as_faces(boxes: np.ndarray) -> Faces:
    return Faces(np.asarray(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32))


def _extremes(gammas: Sequence[float]) -> list[float]:
    return list(dict.fromkeys([min(gammas), max(gammas)]))


def _axis(protocol: Protocol) -> str:
    if isinstance(protocol, Folder):
        return "share of reference faces found again"
    return protocol.headline
