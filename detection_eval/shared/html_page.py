"""Pieces of a report that people look at: one HTML file that needs no network, no JavaScript and no other file.

Every function takes plain text, which is escaped, and returns :data:`Html`; :func:`write_report` puts the pieces on a
page.
"""

from __future__ import annotations

import base64
import colorsys
import html
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NewType

import cv2
import numpy as np
from PIL import Image

from llie_preproc.errors import needs
from llie_preproc.files import atomic_write
from llie_preproc.pictures import convert_depth

with needs("detection_eval.shared.html_page"):
    import matplotlib
    from matplotlib.figure import Figure

Html = NewType("Html", str)

COLOURS = (
    "#0b84d8",
    "#e0701a",
    "#00b487",
    "#a51e78",
    "#6900ff",
    "#ff0f5a",
    "#695a2d",
    "#c396c3",
    "#5a69ff",
)
"""One for each series or kind of box, in order; told apart on a light and a dark page, and by the colour-blind."""

_MARKERS = "os^Dv"
_DASHES = ("-", "--", "-.", ":")

# Steps of the golden ratio round a circle stay apart however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2

# More lines than this hide behind a legend within the axes.
_LEGEND_WITHIN = 3

# Of a gallery; more would leave pictures too small.
_COLUMNS = 4

# Sides of fewer pixels have thin lines, which would else hide what is within.
_SMALL_BOX = 20

# matplotlib writes this colour for text and axes; the page's own text colour replaces it, light or dark.
_INK = "#010203"


@dataclass(frozen=True)
class Overlay:
    """Boxes to draw on a picture.

    Attributes:
        boxes: ``(n, 4)`` x1 y1 x2 y2 in pixels of the picture.
        labels: A word or two for each box, ASCII; empty for none.
        colour: ``'#rrggbb'``.
        dash: Length of the dashes and of the gaps between them in pixels of the result; 0 for a solid line.
    """

    boxes: np.ndarray
    labels: Sequence[str] = ()
    colour: str = COLOURS[0]
    dash: int = 0


@dataclass(frozen=True)
class Panel:
    """A picture of a gallery.

    Attributes:
        image: ``(H, W, 3)`` RGB; uint8, uint16, or float in [0, 1].
        caption: Stands below it.
        alt: Says what it shows to who cannot see it.
        overlays: Boxes drawn on it.
    """

    image: np.ndarray
    caption: str
    alt: str
    overlays: Sequence[Overlay] = field(default=())


def paragraph(text: str) -> Html:
    """A paragraph."""
    return Html(f"<p>{html.escape(text)}</p>")


def section(title: str, *blocks: Html) -> Html:
    """A heading and what stands below it."""
    return Html(f"<section><h2>{html.escape(title)}</h2>{''.join(blocks)}</section>")


def heading(text: str) -> Html:
    """A heading within a section."""
    return Html(f"<h3>{html.escape(text)}</h3>")


def bullets(items: Sequence[str]) -> Html:
    """A list of sentences."""
    return Html(f"<ul>{''.join(f'<li>{html.escape(item)}</li>' for item in items)}</ul>")


def left_out(reasons: Sequence[str], limit: int) -> list[Html]:
    """A heading, and a line for each picture that is in no row, as many as ``limit``; nothing where none is."""
    if not reasons:
        return []
    told = f"{len(reasons)} pictures are in no row of the tables, or their annotations are not used:"
    return [heading("Left out"), paragraph(told), bullets(reasons[:limit])]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> Html:
    """A table; the first column names the rows. Units belong into the header or the caption.

    A line break within a cell is kept.

    Raises:
        ValueError: A row is not as long as the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells where the header has {len(header)}: {row}")
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in header)
    body = "".join(_table_row(row) for row in rows)
    return Html(
        f'<div class="wide"><table><caption><span>{html.escape(caption)}</span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def gallery(panels: Sequence[Panel], columns: int, max_side: int = 480, quality: int = 82) -> Html:
    """Pictures in rows of ``columns``; narrow screens get fewer.

    Args:
        panels: The pictures.
        columns: How many stand side by side where there is room.
        max_side: Larger pictures are shrunk to this height and width, in pixels.
        quality: Of the JPEG encoding.
    """
    figures = "".join(_figure(panel, max_side, quality) for panel in panels)
    return Html(f'<div class="gallery" style="--columns:{columns}">{figures}</div>')


def columns_of(panels: int) -> int:
    """Columns of a gallery: all side by side, or half of them where that leaves them too small."""
    return max(2, panels if panels <= _COLUMNS else min(_COLUMNS, -(-panels // 2)))


def line_plot(
    series: Mapping[str, Mapping[float, float]],
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: int | None = None,
) -> Html:
    """Lines through points, one for each named series of x to y, as inline SVG.

    Args:
        series: Of each line its points.
        title: Stands above the plot.
        x_label: Names the horizontal axis, with its unit.
        y_label: Names the vertical axis, with its unit.
        log_x: Logarithmic horizontal axis, marked at the points alone.
        y_range: Of the vertical axis.
        marks: About as many points of a line are marked; by default all.
    """
    # A legend of many lines stands below the axes, which keep their height.
    below = len(series) > _LEGEND_WITHIN
    figure = Figure(figsize=(6.4, 3.4 + below * 0.25 * math.ceil(len(series) / 2)), layout="constrained")
    with matplotlib.rc_context(_PLOT_STYLE):
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(series.items()):
            step = math.ceil(len(points) / marks) if marks else 1
            axes.plot(
                list(points),
                list(points.values()),
                color=COLOURS[number % len(COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                # Lines that lie upon each other are marked at different places.
                markevery=(number * step // len(series), step),
                linestyle=_DASHES[number % len(_DASHES)] if marks else "-",
                label=name,
            )
        if log_x:
            ticks = sorted({x for points in series.values() for x in points})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
            axes.minorticks_off()
        axes.set(xlabel=x_label, ylabel=y_label, ylim=y_range)
        axes.grid(alpha=0.25, color="#888888")
        if below:
            figure.legend(loc="outside lower left", ncols=2, frameon=False, handlelength=3.5)
        else:
            axes.legend(frameon=False)
        return _svg(figure, title)


def standalone_svg(plot: Html) -> str:
    """The drawing of a plot as an SVG file of its own: black on white, with its title as the file's."""
    drawing = plot[plot.index("<svg ") : plot.index("</svg>") + len("</svg>")]
    title = plot[plot.index("<figcaption>") + len("<figcaption>") : plot.index("</figcaption>")]
    style = 'style="background:#fff;color:#1b1f24" '
    start = drawing.index(">") + 1
    return f"<svg {style}{drawing[5:start]}<title>{title}</title>{drawing[start:]}\n"


def bar_plot(values: Mapping[str, Mapping[str, float]], title: str, y_label: str) -> Html:
    """Groups of bars, ``values[series][group]``, with their values above them, as inline SVG."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    with matplotlib.rc_context(_PLOT_STYLE):
        axes = figure.add_subplot()
        groups = list(dict.fromkeys(group for series in values.values() for group in series))
        width = 0.8 / len(values)
        for number, (name, series) in enumerate(values.items()):
            places = [groups.index(group) + (number + 0.5) * width - 0.4 for group in series]
            bars = axes.bar(
                places, list(series.values()), width * 0.94, color=COLOURS[number % len(COLOURS)], label=name
            )
            axes.bar_label(bars, fmt="{:.3g}", fontsize=8, padding=2)
        axes.set_xticks(range(len(groups)), groups)
        axes.set(ylabel=y_label)
        axes.margins(y=0.12)
        axes.grid(axis="y", alpha=0.25, color="#888888")
        axes.set_axisbelow(True)
        axes.legend(frameon=False)
        return _svg(figure, title)


def bar_panels(
    values: Mapping[str, Mapping[str, float]],
    x_label: str,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    columns: int = 2,
) -> Html:
    """A small plot for each group, ``values[series][group]``, in which every series is a named horizontal bar.

    All share one axis from 0; a value that is NaN is a dash. For more groups and series than :func:`bar_plot` holds.

    Args:
        values: By series and group, 0 or more.
        x_label: Names the axis, with its unit.
        ranges: Intervals of some values, drawn as whiskers.
        columns: How many plots stand side by side where there is room.
    """
    groups = list(dict.fromkeys(group for series in values.values() for group in series))
    ends = [x for row in values.values() for x in row.values()]
    ends += [high for row in (ranges or {}).values() for _, high in row.values()]
    top = max((x for x in ends if not math.isnan(x)), default=0) or 1
    panels = [
        _bar_panel(
            group,
            {name: row.get(group, math.nan) for name, row in values.items()},
            {name: row[group] for name, row in (ranges or {}).items() if group in row},
            x_label,
            top,
        )
        for group in groups
    ]
    return Html(f'<div class="gallery panels" style="--columns:{columns}">{"".join(panels)}</div>')


def _bar_panel(
    title: str, bars: Mapping[str, float], ranges: Mapping[str, tuple[float, float]], x_label: str, top: float
) -> Html:
    figure = Figure(figsize=(3.8, 0.55 + 0.21 * len(bars)), layout="constrained")
    with matplotlib.rc_context(_PLOT_STYLE | {"font.size": 8}):
        axes = figure.add_subplot()
        for place, (name, value) in enumerate(bars.items()):
            low, high = (value, value) if math.isnan(value) else ranges.get(name, (value, value))
            axes.barh(place, 0 if math.isnan(value) else value, 0.74, color=COLOURS[place % len(COLOURS)])
            if low < high:
                axes.plot([low, high], [place, place], color=_INK, linewidth=1.1, marker="|", markersize=5)
            text = "–" if math.isnan(value) else f"{value:.1f}"
            end = max(x for x in (0.0, value, high) if not math.isnan(x))
            axes.text(end + 0.015 * top, place, text, va="center", fontsize=7)
        axes.set_yticks(range(len(bars)), list(bars))
        # Room for the value beside the longest bar.
        axes.set(xlabel=x_label, xlim=(0, 1.14 * top), ylim=(len(bars) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", alpha=0.25, color="#888888")
        axes.set_axisbelow(True)
        return _svg(figure, title)


def write_report(
    path: str | os.PathLike[str], title: str, lead: str, sections: Sequence[Html], provenance: Mapping[str, str]
) -> None:
    """Write the page, atomically.

    Args:
        path: The HTML file.
        title: Heading of the page.
        lead: What the page is about, in a few sentences.
        sections: Of :func:`section`.
        provenance: Command, versions, seed: what it takes to make the page again; stands at the end.
    """
    rows = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in provenance.items())
    name = html.escape(title)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}</title><style>{_STYLE}</style></head><body><main><header><h1>{name}</h1>{paragraph(lead)}</header>"
        f"{''.join(sections)}<footer><h2>How this page was made</h2><dl>{rows}</dl></footer></main></body></html>\n"
    )
    with atomic_write(path) as file:
        file.write(page.encode())


def draw(image: np.ndarray, overlays: Sequence[Overlay], max_side: int) -> np.ndarray:
    """Shrink a picture to ``max_side`` where it is larger, then draw boxes on it.

    Args:
        image: ``(H, W, 3)`` RGB; uint8, uint16, or float in [0, 1].
        overlays: Boxes in pixels of ``image``.
        max_side: Largest height and width of the result.

    Returns:
        ``(h, w, 3)`` RGB uint8.

    Raises:
        ValueError: Not one label for each box.
    """
    canvas = shrink(image, max_side)
    scale = min(1.0, max_side / max(image.shape[:2]))
    for overlay in overlays:
        colour = _levels(overlay.colour)
        corners = (np.asarray(overlay.boxes, np.float64).reshape(-1, 4) * scale).round().astype(int)
        for box in corners.tolist():
            _outline(canvas, box, colour, overlay.dash)
        for box, label in zip(corners.tolist(), overlay.labels, strict=True) if len(overlay.labels) else ():
            _draw_label(canvas, box, label, colour)
    return canvas


def shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    """A copy of a picture as :func:`draw` takes it, ``(h, w, 3)`` uint8 with sides of at most ``max_side``."""
    scale = min(1.0, max_side / max(image.shape[:2]))
    canvas = convert_depth(image, np.uint8).copy()
    if scale == 1:
        return canvas
    size = tuple(max(1, round(n * scale)) for n in image.shape[1::-1])
    return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)


def paint_masks(
    image: np.ndarray, masks: np.ndarray, colours: Sequence[str], alpha: float = 0.45, outline: int = 1
) -> np.ndarray:
    """Lay masks over a picture, large ones first, so that none hides a smaller one, each with its outline.

    Args:
        image: ``(H, W, 3)`` RGB uint8; it is not changed.
        masks: ``(N, H, W)`` bool.
        colours: ``'#rrggbb'`` of each mask.
        alpha: How much of a mask's colour covers the picture, in [0, 1].
        outline: Width of the outlines in pixels, which lie within the masks and are not transparent; 0 for none.

    Returns:
        ``(H, W, 3)`` RGB uint8.

    Raises:
        ValueError: Masks of another shape than the picture's, or not one colour for each.
    """
    if masks.shape[1:] != image.shape[:2] or len(masks) != len(colours):
        raise ValueError(
            f"masks of shape {masks.shape} with {len(colours)} colours for a picture of shape {image.shape}"
        )
    canvas = image.copy()
    for number in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        mask, colour = masks[number], np.array(_levels(colours[number]))
        canvas[mask] = ((1 - alpha) * canvas[mask] + alpha * colour).round()
        if outline:
            canvas[mask & ~_inside(mask, outline)] = colour
    return canvas


def hues(count: int) -> list[str]:
    """``'#rrggbb'`` of many things that :data:`COLOURS` are too few for; the first ``n`` are the same for any count."""
    steps = (number * _GOLDEN for number in range(count))
    levels = [colorsys.hls_to_rgb(step % 1, 0.6 if step % 2 < 1 else 0.45, 0.85) for step in steps]
    return ["#" + "".join(f"{round(255 * level):02x}" for level in each) for each in levels]


def _inside(mask: np.ndarray, depth: int) -> np.ndarray:
    """Pixels of a mask that have no other than its own around them, as far as ``depth``."""
    kernel = np.ones((3, 3), np.uint8)
    eroded = cv2.erode(mask.astype(np.uint8), kernel, iterations=depth, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return eroded.astype(bool)


def _levels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _outline(canvas: np.ndarray, box: Sequence[int], colour: tuple[int, ...], dash: int) -> None:
    left, top, right, bottom = box
    thickness = 1 if min(right - left, bottom - top) < _SMALL_BOX else 2
    if not dash:
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, thickness)
        return
    around = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for start, end in pairwise(around):
        dashes = max(1, round(math.dist(start, end) / (2 * dash)))
        points = np.linspace(start, end, 2 * dashes).round().astype(int).tolist()
        for first, last in zip(points[::2], points[1::2], strict=True):
            cv2.line(canvas, first, last, colour, thickness)


def _draw_label(canvas: np.ndarray, box: Sequence[int], label: str, colour: tuple[int, ...]) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), descent = cv2.getTextSize(label, font, scale, 1)
    left = min(max(box[0], 0), max(canvas.shape[1] - width - 2, 0))
    bottom = max(box[1], height + descent)
    cv2.rectangle(canvas, (left, bottom - height - descent), (left + width + 2, bottom), colour, -1)
    cv2.putText(canvas, label, (left + 1, bottom - descent + 1), font, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _table_row(row: Sequence[str]) -> str:
    first, *others = (html.escape(cell) for cell in row)
    return f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'


def _figure(panel: Panel, max_side: int, quality: int) -> str:
    pixels = draw(panel.image, panel.overlays, max_side)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    data = base64.b64encode(buffer.getvalue()).decode()
    height, width = pixels.shape[:2]
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="{width}" height="{height}" '
        f'alt="{html.escape(panel.alt)}"><figcaption>{html.escape(panel.caption)}</figcaption></figure>'
    )


def _svg(figure: Figure, title: str) -> Html:
    """The figure as SVG that takes the page's font and text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg ") :].replace(_INK, "currentColor")
    label = html.escape(title)
    drawing = drawing.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    return Html(f'<figure class="plot"><figcaption>{label}</figcaption>{drawing}</figure>')


_PLOT_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "llie_preproc",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--page:#f6f7f9;--card:#fff;--line:#dde2e8}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebee;--soft:#9aa5b1;--page:#14171b;--card:#1d2126;--line:#343b43}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.9rem;line-height:1.2;margin:.5rem 0}h2{font-size:1.3rem;margin:0 0 .6rem}
h3{font-size:1.05rem;margin:1.2rem 0 .3rem}ul{padding-left:1.2rem;max-width:52rem}li{margin:.3rem 0}
header p{color:var(--soft);max-width:46rem}p{max-width:52rem}
section,footer{background:var(--card);border:1px solid var(--line);border-radius:.7rem;
padding:1.1rem 1.2rem;margin:1.2rem 0}
.gallery{display:grid;gap:.8rem;margin:1rem 0;
grid-template-columns:repeat(auto-fill,
minmax(max(var(--least,9.5rem),calc((100% - .8rem*(var(--columns) - 1))/var(--columns))),1fr))}
figure{margin:0}figure img{display:block;width:100%;height:auto;border-radius:.35rem;background:#000}
figcaption{color:var(--soft);font-size:.85rem;margin-top:.3rem}
.plot{margin:1rem 0;max-width:44rem}.plot figcaption{color:var(--ink);font-weight:600}
.panels{--least:min(19rem,100%);row-gap:.2rem}.panels .plot{margin:.3rem 0;min-width:0}
.plot svg{display:block;width:100%;height:auto}.plot svg text{font-family:inherit!important}
.wide{overflow-x:auto;margin:1rem 0;container-type:inline-size}
caption span{display:inline-block;position:sticky;left:0;max-width:100cqw}
table{border-collapse:separate;border-spacing:0;font-size:.92rem;font-variant-numeric:tabular-nums;min-width:50%}
caption{caption-side:top;text-align:left;color:var(--soft);font-size:.9rem;padding-bottom:.4rem}
th,td{padding:.35rem .55rem;border-bottom:1px solid var(--line);text-align:right;white-space:pre;vertical-align:top}
th:first-child{text-align:left;position:sticky;left:0;background:var(--card)}
thead th{border-bottom-width:2px}tbody th{font-weight:500}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;margin:0;font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}
@media(max-width:34rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}}
"""
