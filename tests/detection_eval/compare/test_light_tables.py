"""A comparison with an axis of light: its tables, its page and its plan."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support import made_comparison
from tests.support.pages import Page

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")

from detection_eval.compare.comparison_data import ComparisonData
from detection_eval.compare.comparison_store import Cell, Comparison
from detection_eval.compare.tables import measure, write_tables
from detection_eval.metrics.bootstrap import differences
from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.detections import read_detections, read_truth
from llie_preproc.commands.llie import main
from llie_preproc.pictures import read_rgb8

EXPOSURES = dict(kind="exposures", full_well=3000.0, read_noise=3.0, noise_seed=0)
LIGHTS = (1.0, 0.0, -4.0)
WORDS = {1.0: "+1 EV", 0.0: "0 EV", -4.0: "-4 EV"}
SERIES = ("raw", "gamma, zero-shot", "gamma, retrained", "upscale, retrained")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A finished comparison at three exposures, with its tables and its page."""
    folder = tmp_path_factory.mktemp("lit")
    out = made_comparison.write_comparison(folder, images=8, light=EXPOSURES, lights=LIGHTS)
    comparison = Comparison(out)
    write_tables(comparison, measure(comparison))
    assert main(["report", str(out), "--changed", "1", "--quality-images", "2"]) == 0
    return comparison


@pytest.fixture(scope="module")
def page(made: Comparison) -> Page:
    return Page((made.folder / "report.html").read_text())


def scores(comparison: Comparison, enhancer: str, mode: str, light: float) -> list[CocoScores]:
    """Scores of the kept detections of each seed."""
    truth = read_truth(comparison.truth_path)
    paths = [comparison.detections_path(Cell(enhancer, mode, seed, light)) for seed in made_comparison.SEEDS]
    return [CocoScores(truth, read_detections(path, truth)) for path in paths]


def written(path: Path) -> list[dict[str, dict[str, str]]]:
    """The tables of a Markdown file: cells by row, then by column."""
    tables = []
    for block in path.read_text().split("\n\n"):
        lines = [[each.strip() for each in line.strip("|").split("|")] for line in block.splitlines()]
        if block.startswith("|"):
            head, _, *rows = lines
            tables.append({row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows})
    return tables


def test_tables_have_ap_and_its_paired_difference_at_each_light(made: Comparison, page: Page) -> None:
    of_ap, of_difference, *_ = written(made.folder / "table.md")
    shown = page.table("COCO: AP (coco), %, by exposure in EV"), page.table("COCO: AP (coco), minus raw")
    assert list(of_ap) == list(shown[0]) == list(SERIES)
    assert list(of_difference) == list(shown[1]) == list(SERIES[1:])
    values = set()
    for light, words in WORDS.items():
        raw = scores(made, "none", "raw", light)
        for series, (enhancer, mode) in zip(SERIES, made_comparison.ROWS, strict=True):
            own = scores(made, enhancer, mode, light)
            mean = f"{100 * np.mean([each.values()['AP'] for each in own]):.1f} "
            assert of_ap[series][words].startswith(mean)
            assert shown[0][series][words].startswith(mean)
            values.add(mean)
            if enhancer != "none":
                change = differences(raw, own, resamples=50)["AP"]
                numbers = [100 * each for each in (change.value, change.low, change.high)]
                assert of_difference[series][words] == "{:+.1f} [{:+.1f}, {:+.1f}]".format(*numbers)
                assert shown[1][series][words] == "{:+.1f}\n[{:+.1f}, {:+.1f}]".format(*numbers)
    # The rows differ, so that no number can stand in another's place.
    assert len(values) == 12


def test_every_line_of_the_csv_names_its_light(made: Comparison) -> None:
    with (made.folder / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12 * 6
    table = {(row["enhancer"], row["mode"], row["light"]): row for row in made.table()}
    for line in lines:
        row = table[line["enhancer"], line["mode"], float(line["light"])]
        score = row["scores"]["coco"][line["score"]]["value"]
        assert line["value"] == ("" if score is None else str(score))


def test_the_page_plots_a_line_with_a_band_for_each_enhancer(made: Comparison, page: Page) -> None:
    text = (made.folder / "report.html").read_text()
    plots = re.findall(r'<figure class="plot"><figcaption>(AP[^<]*)</figcaption>(<svg.*?</svg>)', text, re.DOTALL)
    assert [title for title, _ in plots] == ["AP", "AP minus raw at the same light"]
    # Raw is the line at 0 among the differences.
    for _, plot in plots:
        assert len(re.findall('<g id="FillBetweenPolyCollection_', plot)) == len(SERIES)
        assert [name for name in SERIES if f">{name}<" in plot] == list(SERIES)
        assert "exposure in EV" in plot
    section = page.sections["Average precision by light"]
    assert "3000 electrons at white with a read noise of 3" in section
    assert "The other sections are about the test set at -4 EV" in section
    for row in made.table():
        if row["difference"]:
            assert row["label"] in page.sections["Does it help?"]


def test_the_other_sections_are_about_the_farthest_light(made: Comparison, page: Page) -> None:
    classes = page.sections["Average precision by class"]
    assert "raw, -4 EV" in classes
    assert "0 EV" not in classes
    alts = [attributes["alt"] for attributes in page.all("img")]
    assert alts
    assert all(", raw:" in alt or ", -4 EV:" in alt for alt in alts)
    data = ComparisonData(made)
    truth = read_truth(made.truth_path)
    for image in truth["images"]:
        stored, shown = read_rgb8(made.picture(image)), data.picture(image)
        assert shown.shape == stored.shape
        assert shown.mean() < stored.mean() / 2


def test_gammas_are_drawn_on_an_axis_of_their_own(tmp_path: Path) -> None:
    axis = dict(kind="gammas", convention="inverse")
    out = made_comparison.write_comparison(tmp_path, images=4, light=axis, lights=(0.25, 1.0, 2.0))
    comparison = Comparison(out)
    write_tables(comparison, measure(comparison))
    assert main(["report", str(out), "--changed", "0", "--quality-images", "0"]) == 0
    text = (out / "report.html").read_text()
    assert "gamma g of I^(1/g)" in text
    assert list(written(out / "table.md")[0]["raw"]) == ["gamma 0.25", "gamma 1", "gamma 2"]
    assert "The other sections are about the test set at gamma 0.25" in text


def test_a_light_that_is_not_finished_is_a_dash(tmp_path: Path) -> None:
    out = made_comparison.write_comparison(tmp_path, images=4, light=EXPOSURES, lights=LIGHTS)
    for name in ("raw-seed0-light-4", "gamma-zero-shot-seed1-light0"):
        (out / "cells" / name / "result.json").unlink()
    comparison = Comparison(out)
    write_tables(comparison, measure(comparison))
    of_ap, of_difference, *_ = written(out / "table.md")
    assert of_ap["raw"]["-4 EV"] == of_ap["gamma, zero-shot"]["0 EV"] == "–"
    assert of_ap["raw"]["0 EV"] != "–"
    assert {row["-4 EV"] for row in of_difference.values()} == {"–"}
    assert main(["report", str(out), "--changed", "1", "--quality-images", "0"]) == 0
    assert "raw, -4 EV (raw-seed0-light-4)" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("row", "says"), [({}, "lacks light"), ({"light": -3.0, "series": "raw"}, "raw has the light -3.0, which the plan")]
)
def test_a_table_of_other_lights_is_named(tmp_path: Path, row: dict, says: str) -> None:
    out = made_comparison.write_comparison(tmp_path, images=2, light=EXPOSURES, lights=LIGHTS)
    whole = dict(enhancer="none", mode="raw", label="raw", seeds=[0], scores={}, difference=None, timing={})
    (out / "results.json").write_text(json.dumps(dict(rows=[{**whole, **row}])))
    with pytest.raises(ValueError, match=rf"results\.json is damaged: .*{says}"):
        ComparisonData(Comparison(out))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (dict(light=3), "light must have a 'kind'"),
        (dict(light=dict(kind="moons")), "light must have a 'kind' out of exposures, gammas"),
        (dict(light=dict(kind="gammas", full_well=3.0)), "light: .*full_well"),
        (dict(light=dict(kind="gammas", convention="cube")), "convention must be one of"),
        (dict(light=dict(kind="gammas"), cells=[["none", "raw", 0]]), "the cell raw-seed0 does not fit"),
        (dict(light=dict(kind="gammas"), cells=[["none", "raw", 0, -1.0]]), "gamma must be positive"),
        (dict(cells=[["none", "raw", 0, -1.0]]), "the cell raw-seed0-light-1 does not fit the plan's light, None"),
        (dict(light=dict(kind="exposures"), cells=[["none", "raw", 0, "dark"]]), "it is no plan"),
    ],
)
def test_a_plan_with_another_light_is_named(tmp_path: Path, change: dict, says: str) -> None:
    plan = {"cells": [], "enhancers": {}, "image_root": "images", **change}
    (tmp_path / "comparison.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=rf"comparison\.json is damaged: .*{says}"):
        Comparison(tmp_path)
