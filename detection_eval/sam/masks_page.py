"""The page of a measurement: tables, and pictures with masks as SAM saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from llie_preproc.pictures import read_rgb8

from ..metrics.masks import Rle, decode_masks, match_masks
from ..shared.enhancers import NONE, frozen_enhancers, label_of
from ..shared.page.galleries import Panel, chosen_pictures, pictures_section
from ..shared.page.html_blocks import Html, bullets, captioned, left_out, paragraph, section, write_report
from ..shared.page.overlays import Overlay, paint_masks, shrink
from ..shared.page.palette import hues
from ..shared.score_table import Row
from .mask_results import TITLES, asked_of, difference_tables, notes, score_tables, settings
from .measure_masks import AUTOMATIC, BOXES, REFERENCE, Request, Result, Stage, read_reference
from .sam_choice import UNTRAINED

_MAX_SIDE = 640
_OTHER = "#b4b4b4"
_PARTNER_IOU = 0.5


def write_page(request: Request, result: Result, rows: Sequence[Row], provenance: Mapping[str, str]) -> Path:
    """Write ``report.html``, and return its path."""
    asked = asked_of(request, result)
    what = {AUTOMATIC: "masks of their reference pictures", BOXES: "box prompts"}
    counted = " and ".join(f"{number} {what[task]}" for task, number in asked.items())
    lead = (
        f"Segment Anything on {len(result.names)} pictures with {counted}, raw and behind enhancers. All rows have the "
        "same model, pictures and prompts, and masks in the raw frame."
    )
    warning = [] if request.sam.trained else [section("Not trained", paragraph(UNTRAINED))]
    path = request.folder / "report.html"
    sections = [*warning, _scores_section(request, result, rows), _pictures_section(request, result)]
    write_report(path, "Segment Anything in the dark", lead, sections, provenance)
    return path


def choose_pictures(request: Request, result: Result) -> dict[str, str]:
    """Choose the picture with most masks to find and those that gained and lost most against raw, and say why."""
    task = request.tasks[0]
    headline = "mean_iou" if task == AUTOMATIC else "iou" if request.pictures.annotated else "box_agreement"
    first = result.items[request.enhancers[0]]
    count = {name: len(first[name][headline]) for name in result.names}
    counted = "reference masks" if task == AUTOMATIC else "prompts"
    return chosen_pictures(count, counted, _gains(result, headline), headline)


def _gains(result: Result, score: str) -> dict[str, float]:
    """Sum for each picture the differences of all enhancers to raw."""
    if NONE not in result.items:
        return {}
    return {
        name: sum(_mean(items[name][score]) - _mean(result.items[NONE][name][score]) for items in result.items.values())
        for name in result.names
    }


def _mean(values: np.ndarray) -> float:
    """Average the defined values; 0 if there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else 0.0


def _scores_section(request: Request, result: Result, rows: Sequence[Row]) -> Html:
    scores, differences = score_tables(request, rows), difference_tables(request, rows)
    return section(
        "Scores",
        *(captioned(each, f"{TITLES[task]}; scores from 0 to 1, higher is better") for task, each in scores.items()),
        *(captioned(each, f"{TITLES[task]}, minus raw") for task, each in differences.items()),
        bullets([*notes(request), *settings(request, result)]),
        *left_out(result.failed),
    )


@dataclass(frozen=True)
class _View:
    """Picture as SAM saw it, shrunk for the page, RGB uint8. ``size`` and ``masks`` are those of the raw frame."""

    image: np.ndarray
    size: tuple[int, int]
    masks: Sequence[Rle]

    def panel(self, colours: Sequence[str], caption: str, boxes: np.ndarray | None = None) -> Panel:
        """Paint the masks on the picture, and draw the boxes ``(n, 4)`` left, top, width, height in their colours."""
        height, width = self.image.shape[:2]
        shown = [
            cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0
            for mask in (decode_masks([rle], self.size)[0].astype(np.uint8) for rle in self.masks)
        ]
        painted = paint_masks(self.image, np.array(shown, bool).reshape(-1, height, width), colours)
        overlays = []
        if boxes is not None:
            scale = width / self.size[1], height / self.size[0]
            corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) * (*scale, *scale)
            overlays = [Overlay(box, colour=colour) for box, colour in zip(corners, colours, strict=True)]
        return Panel(painted, caption, caption, overlays)


class _Pictures:
    """Maker of the panels of pictures, which builds each enhancer once."""

    def __init__(self, request: Request, result: Result) -> None:
        self.request, self.result = request, result
        self.enhancers = frozen_enhancers(request.specs, request.options, request.sam.device)

    def rows(self, name: str) -> list[list[Panel]]:
        """Make the panels of a picture, a row for each task."""
        raw = read_rgb8(self.request.pictures.files[name])
        size = raw.shape[0], raw.shape[1]
        seen = {
            label: shrink(raw if label == NONE else self.enhancers[label](raw), _MAX_SIDE)
            for label in self.request.enhancers
        }
        make = {AUTOMATIC: self._automatic, BOXES: self._prompted}
        return [make[task](name, seen, size) for task in self.request.tasks]

    def _automatic(self, name: str, seen: Mapping[str, np.ndarray], size: tuple[int, int]) -> list[Panel]:
        reference = self.result.found[Stage(REFERENCE, NONE)][name].masks
        palette = hues(len(reference))
        panels = []
        for label, image in seen.items():
            masks = self.result.found[Stage(AUTOMATIC, label)][name].masks
            matched = match_masks(masks, reference)
            partners = {found: palette[own] for found, own, iou in zip(*matched, strict=True) if iou >= _PARTNER_IOU}
            iou = _mean(self.result.items[label][name]["mean_iou"])
            again = f"found again {len(partners)} of {len(reference)}, mean IoU {iou:.3f}"
            caption = f"{label_of(label)}: masks {len(masks)}, {again}"
            colours = [partners.get(number, _OTHER) for number in range(len(masks))]
            panels.append(_View(image, size, masks).panel(colours, caption))
        path = (self.request.pictures.references or {})[name]
        shown = shrink(read_reference(path, (size[1], size[0])).pixels, _MAX_SIDE)
        view = _View(shown, size, reference)
        return [*panels, view.panel(palette, f"reference: masks {len(reference)}")]

    def _prompted(self, name: str, seen: Mapping[str, np.ndarray], size: tuple[int, int]) -> list[Panel]:
        boxes = (self.request.pictures.prompts or {})[name].boxes
        panels = []
        for label, image in seen.items():
            items = self.result.items[label][name]
            scores = ", ".join(
                f"{score} {_mean(items[score]):.3f}" for score in ("box_agreement", "iou") if score in items
            )
            masks = self.result.found[Stage(BOXES, label)][name].masks
            caption = f"{label_of(label)}: {len(boxes)} prompts, {scores}"
            panels.append(_View(image, size, masks).panel(hues(len(masks)), caption, boxes))
        return panels


def _pictures_section(request: Request, result: Result) -> Html:
    legends = {
        AUTOMATIC: "Automatic masks are painted on the picture as SAM saw it. A mask and its partner in the reference "
        f"have the same colour if their IoU is at least {_PARTNER_IOU:g}; a grey mask has no such partner.",
        BOXES: "A box prompt and its mask have the same colour.",
    }
    legend = " ".join(legends[task] for task in request.tasks)
    return pictures_section(legend, choose_pictures(request, result), _Pictures(request, result).rows, _MAX_SIDE)
