"""The page of a comparison: parsed back, and compared with the files that it is made of."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import made_comparison
from tests.support.pages import Page

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'demo'")

from detection_eval.compare.appearance import Looks, brightness_bins, mean_luma, mean_scores, score_looks
from detection_eval.compare.changes import Change, Matches, match
from detection_eval.compare.comparison_store import Comparison
from detection_eval.compare.side_by_side import FALSE, FOUND, MISSED, Pair, View, panels
from detection_eval.compare.tables import measure
from detection_eval.compare.verdict_sections import verdict
from llie_preproc import FrozenEnhancer
from llie_preproc.commands.llie import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished comparison and its page."""
    out = made_comparison.write_comparison(tmp_path_factory.mktemp("made"))
    comparison = Comparison(out)
    comparison.save_table(measure(comparison))
    assert main(["report", str(out), "--changed", "3", "--quality-images", "4"]) == 0
    return out


@pytest.fixture(scope="module")
def text(made):
    return (made / "report.html").read_text()


@pytest.fixture(scope="module")
def shown(text):
    return Page(text)


def _rows(out):
    return json.loads((out / "results.json").read_text())["rows"]


def _copy(made, tmp_path):
    """The folder without its page and pictures, to damage."""
    return shutil.copytree(made, tmp_path / "out", ignore=shutil.ignore_patterns("report.html"))


def _edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_every_score_and_interval_stands_in_its_cell(made, shown):
    table = shown.table("COCO: in %")
    assert list(table) == ["raw", "gamma, zero-shot", "gamma, retrained", "upscale, retrained"]
    for row in _rows(made):
        for name, score in row["scores"]["coco"].items():
            cell = table[row["label"]][name]
            if score["value"] is None:
                assert cell == "–"
                continue
            numbers = [100 * score[key] for key in ("value", "seed_sd", "low", "high")]
            assert cell == "{:.1f} ± {:.1f}\n[{:.1f}, {:.1f}]".format(*numbers)
        assert table[row["label"]]["detector\nms"] == "41.5"
        assert table[row["label"]]["enhancer\nms"] == ("–" if row["label"] == "raw" else "3.2")


def test_every_difference_says_in_words_whether_it_excludes_zero(made, shown):
    table = shown.table("COCO: minus raw")
    compared = [row for row in _rows(made) if row["difference"]]
    assert list(table) == [row["label"] for row in compared]
    for row in compared:
        for name, score in row["difference"]["coco"].items():
            cell = table[row["label"]][name]
            if score["value"] is None:
                assert cell == "–"
                continue
            numbers, words = cell.rsplit("\n", 1)
            assert numbers == "{:+.1f}\n[{:+.1f}, {:+.1f}]".format(*(100 * score[k] for k in ("value", "low", "high")))
            assert (words == "includes 0") == (score["low"] <= 0 <= score["high"])
            assert (words == "above raw") == (score["low"] > 0)


def test_a_size_without_objects_is_a_dash(made, shown):
    truth = json.loads((made / "truth.json").read_text())
    assert not any(each["area"] > 96**2 for each in truth["annotations"])
    for row in shown.table("COCO: in %").values():
        assert row["APl"] == "–"
    assert "large: above 96 x 96 (0 objects)" in shown.sections["By object size and by brightness of the scene"]


def _difference(value, low, high, mode="retrained", seeds=(0, 1)):
    difference = {"coco": {"AP": {"value": value, "low": low, "high": high}}}
    return {"label": f"x, {mode}", "mode": mode, "seeds": seeds, "difference": difference}


@pytest.mark.parametrize(
    ("difference", "says"),
    [
        ((0.031, 0.012, 0.05), "x, retrained helps: AP is 3.1 points above raw (95 % interval +1.2 to +5.0)."),
        ((-0.031, -0.05, -0.012), "x, retrained hurts: AP is 3.1 points below raw (95 % interval -5.0 to -1.2)."),
        ((0.02, -0.01, 0.05), "no difference that this data can show"),
        ((0.02, 0.0, 0.05), "no difference that this data can show"),
        ((-0.0003, -0.002, 0.0), "AP is +0.0 points from raw; 95 % interval -0.2 to +0.0, includes 0."),
        ((0.0, 0.0, 0.0), "no difference that this data can show"),
        ((0.02, 0.02, 0.02), "x, retrained: no verdict. AP is +2.0 points from raw, and its interval has no width."),
        ((None, None, None), "AP is not defined on this data"),
        ((0.02, None, None), "AP is not defined on this data"),
    ],
)
def test_the_verdict_follows_the_interval(difference, says):
    said = verdict(_difference(*difference))
    assert says in said
    assert "one training" not in said


@pytest.mark.parametrize("mode", ["zero-shot", "retrained", "joint"])
def test_a_verdict_on_two_single_trainings_says_so(mode):
    said = verdict(_difference(0.031, 0.012, 0.05, mode, seeds=(0,)))
    assert ("based on one training each" in said) == (mode != "zero-shot")


@pytest.mark.further
def test_one_test_picture_shows_nothing(tmp_path):
    out = made_comparison.write_comparison(tmp_path, images=1)
    comparison = Comparison(out)
    comparison.save_table(measure(comparison))
    assert main(["report", str(out), "--changed", "0", "--quality-images", "0"]) == 0
    summary = Page((out / "report.html").read_text()).sections["Does it help?"]
    assert "no verdict" in summary
    assert not re.search("helps|hurts", summary.removeprefix("Does it help?"))


def test_the_verdicts_and_the_caveat_stand_first(made, shown):
    summary = shown.sections["Does it help?"]
    for row in _rows(made)[1:]:
        assert verdict(row) in summary
    assert "20 test pictures" in summary
    assert "training seeds 0, 1" in summary
    assert "50 bootstrap resamples" in summary
    assert "With fewer than 30 pictures such intervals are too narrow" in summary
    defined = [
        each for row in _rows(made)[1:] for each in row["difference"]["coco"].values() if each["low"] is not None
    ]
    assert 0 < len(defined) < 18
    assert f"The tables have {len(defined)} differences." in summary


def test_sections_stand_in_their_order(shown):
    assert list(filter(str.strip, shown.sections))[-7:] == [
        "Does it help?",
        "Average precision by class",
        "Precision and recall",
        "By object size and by brightness of the scene",
        "Pictures whose detections changed most",
        "Image quality of the same pictures",
        "How this page was made",
    ]


def test_class_names_are_text(text, shown):
    assert "<b>" not in text
    assert "<b>dog & cat</b> (" in shown.sections["Average precision by class"]


def test_the_page_needs_nothing_else(text, shown):
    assert shown.needs() == []
    assert len(text) < 6e6


def test_every_cell_can_be_recomputed(made, shown):
    comparison = Comparison(made)
    provenance = shown.sections["How this page was made"]
    for cell in comparison.cells:
        assert f"score {comparison.truth_path} {comparison.detections_path(cell)}" in provenance
    for word in ("max_epochs: 12", "batch_size: 8", "torch: 2.0", comparison.plan["command"]):
        assert word in provenance


def test_pictures_say_what_they_show(made, shown):
    """The words below the pictures count what the images' detections are, at the thresholds that the page names."""
    section = shown.sections["Pictures whose detections changed most"]
    alts = [attributes["alt"] for attributes in shown.all("img")]
    assert 4 <= len(alts) <= 12
    assert len(alts) % 2 == 0
    label, seed = re.search(r"highest AP, (.*), for the detectors of seed (\d)\.", section).groups()
    thresholds = map(float, re.search(rf"highest: ([\d.]+) for raw, ([\d.]+) for {label}\.", section).groups())
    truth = json.loads((made / "truth.json").read_text())
    ids = {image["file_name"]: image["id"] for image in truth["images"]}
    cells = {row.label: row.cells[int(seed)] for row in Comparison(made).rows}
    found = {kind: json.loads(Comparison(made).detections_path(cells[kind]).read_text()) for kind in ("raw", label)}
    # The page rounds a threshold to three digits; no score lies between.
    for kind, threshold in zip(("raw", label), thresholds, strict=True):
        matches = match(truth, [each for each in found[kind] if each["score"] > threshold - 5e-4])
        own = [alt for alt in alts if f".png, {kind}:" in alt]
        assert len(own) == len(alts) // 2
        for alt in own:
            m = matches[ids[alt.split(",")[0]]]
            taken = int(np.isfinite(m.found_at).sum())
            words = f"{taken} of {len(m.boxes)} annotated objects found, {len(m.false_boxes)} false detections"
            assert alt.endswith(words)


def test_the_sample_of_image_quality_is_stated_and_scored(made, shown):
    assert "4 of 20 test pictures, drawn with seed 0" in "".join(shown.tables)
    table = shown.table("Mean over 4 of 20")
    assert list(table) == ["raw", "gamma", "upscale"]
    assert table["raw"]["LOE"] == "0.00"
    assert float(table["gamma"]["mean luma"]) > float(table["raw"]["mean luma"])
    assert float(table["upscale"]["mean luma"]) == pytest.approx(float(table["raw"]["mean luma"]), abs=1)


@pytest.mark.further
def test_unfinished_rows_are_named(made, tmp_path, capsys):
    out = _copy(made, tmp_path)
    (out / "cells" / "gamma-retrained-seed1" / "result.json").unlink()
    comparison = Comparison(out)
    comparison.save_table(measure(comparison))
    assert main(["report", str(out), "--changed", "0", "--quality-images", "0", "--out", str(tmp_path / "p.html")]) == 0
    summary = Page((tmp_path / "p.html").read_text()).sections["Does it help?"]
    assert "gamma, retrained (gamma-retrained-seed1)" in summary
    assert "gamma, retrained helps" not in summary
    assert not (out / "report.html").exists()


@pytest.mark.further
def test_without_raw_pictures_there_is_no_difference(made, tmp_path):
    out = _copy(made, tmp_path)

    def without_raw(plan):
        plan["cells"] = [cell for cell in plan["cells"] if cell[0] != "none"]

    _edit(out / "comparison.json", without_raw)
    comparison = Comparison(out)
    comparison.save_table(measure(comparison))
    assert main(["report", str(out), "--quality-images", "0"]) == 0
    shown = Page((out / "report.html").read_text())
    assert "There is no row of raw pictures" in shown.sections["Does it help?"]
    assert not shown.all("img")


def _fails(out, capsys, *says, options=()):
    assert main(["report", str(out), *options]) == 2
    error = capsys.readouterr().err.splitlines()
    message = next(line for line in error if line.startswith("llie: error: "))
    assert message == error[-1]
    for each in says:
        assert each in message


def test_bad_options_are_named(made, capsys):
    _fails(made, capsys, "--device", options=["--device", "nowhere"])
    _fails(made, capsys, "ascending", options=["--brightness-edges", "60", "20"])
    _fails(made, capsys, "gone.npz", options=["--niqe-model", "gone.npz"])
    for option in ("--changed", "--quality-images"):
        with pytest.raises(SystemExit):
            main(["report", str(made), option, "-1"])
        assert "must be 0 or more, got -1" in capsys.readouterr().err


def test_a_folder_without_a_comparison(tmp_path, capsys):
    _fails(tmp_path / "nowhere", capsys, "nowhere", "comparison.json is missing")


@pytest.mark.parametrize(
    "name", ["comparison.json", "truth.json", "results.json", "cells/raw-seed0/detections.bbox.json"]
)
def test_a_damaged_file_is_named(name, made, tmp_path, capsys):
    out = _copy(made, tmp_path)
    path = out / name
    path.write_text(path.read_text()[:-9])
    _fails(out, capsys, path.name)


def test_a_missing_table_detections_or_picture_is_named(made, tmp_path, capsys):
    out = _copy(made, tmp_path)
    (out / "cells" / "raw-seed1" / "detections.bbox.json").unlink()
    _fails(out, capsys, "raw-seed1/detections.bbox.json")
    (out / "results.json").unlink()
    _fails(out, capsys, "results.json")
    out = _copy(made, tmp_path / "other")
    _edit(out / "truth.json", lambda truth: truth["images"][3].update(file_name="gone.png"))
    _fails(out, capsys, "gone.png")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda table: table.pop("rows"), "'rows'"),
        (lambda table: table["rows"].clear(), "no row"),
        (lambda table: table["rows"][1].pop("scores"), "lacks scores"),
        (lambda table: table["rows"].append("raw"), "expected an object"),
    ],
)
def test_a_table_of_another_shape_is_named(change, says, made, tmp_path, capsys):
    out = _copy(made, tmp_path)
    _edit(out / "results.json", change)
    _fails(out, capsys, says, str(out))


@given(
    st.lists(st.floats(0, 255), min_size=1, max_size=30),
    st.none() | st.lists(st.integers(1, 254), min_size=1, max_size=4, unique=True).map(sorted),
)
def test_brightness_bins_partition_the_pictures(luma, edges):
    bins = brightness_bins(luma, edges)
    np.testing.assert_array_equal(np.sum([each.weights for each in bins], axis=0), np.ones(len(luma)))
    assert sum(each.size for each in bins) == len(luma)
    order = [max(np.array(luma)[each.weights > 0], default=-math.inf) for each in bins]
    starts = [min(np.array(luma)[each.weights > 0], default=math.inf) for each in bins]
    for i in range(len(bins)):
        assert all(order[i] <= start for start in starts[i + 1 :])


def test_given_brightness_edges_are_the_bins():
    bins = brightness_bins([5.0, 20.0, 19.9, 80.0], [20, 60])
    assert [each.weights.tolist() for each in bins] == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert [each.label for each in bins] == ["luma 0 to 20.0", "luma 20.0 to 60.0", "luma 60.0 to 255"]
    for edges, luma in (([60, 20], [1.0]), ([20, 20], [1.0]), ([math.nan], [1.0]), ([20, 300], [1.0]), (None, [])):
        with pytest.raises(ValueError, match="ascending"):
            brightness_bins(luma, edges)


def test_luma_is_that_of_the_colours():
    assert mean_luma(np.full((4, 5, 3), 77, np.uint8)) == pytest.approx(77)
    assert mean_luma(np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)) == pytest.approx(255 * (0.299 + 0.587) / 2)


def test_known_pictures_are_not_enhanced_again():
    raw = np.random.default_rng(0).integers(0, 99, (64, 64, 3)).astype(np.uint8)
    looks = Looks()
    scores = score_looks(looks, raw, {"gamma": FrozenEnhancer("GammaCorrection")}, {"gamma": raw})
    assert scores["gamma"] == scores["raw"]
    assert scores["raw"]["loe"] == 0
    means = mean_scores([{"raw": {"a": 1.0, "b": math.nan}}, {"raw": {"a": 2.0, "b": 5.0}}])
    assert means == {"raw": {"a": 1.5, "b": 5.0}}


def _matches(boxes, found_at, false=()):
    false = np.array(false, float).reshape(-1, 4)
    return Matches(
        np.array(boxes, float).reshape(-1, 4),
        np.ones(len(boxes)),
        np.array(found_at, float),
        false,
        np.ones(len(false)),
        np.full(len(false), 0.9),
    )


def _pair(raw, enhanced, before, after):
    return Pair("a.png", Change(1, 0, 0), View("raw", raw, before, 0.5), View("x", enhanced, after, 0.5))


def test_boxes_follow_an_enhancer_that_enlarges():
    boxes, false = [[40, 80, 200, 240], [300, 300, 380, 390]], [[10, 20, 30, 40]]
    raw = np.zeros((400, 400, 3), np.uint8)
    pair = _pair(
        raw, np.zeros((800, 800, 3), np.uint8), _matches(boxes, [0.9, 0.1]), _matches(boxes, [0.9, 0.9], false)
    )
    before, after = panels(pair, {1: "cat"})
    assert before.image.shape == (400, 400, 3)
    assert after.image.shape == (800, 800, 3)
    by_colour = [{o.colour: o.boxes.tolist() for o in panel.overlays} for panel in (before, after)]
    assert by_colour[0] == {FALSE: [], FOUND: [boxes[0]], MISSED: [boxes[1]]}
    assert by_colour[1] == {
        FALSE: [[20, 40, 60, 80]],
        FOUND: [[80, 160, 400, 480], [600, 600, 760, 780]],
        MISSED: [],
    }
    assert len({o.dash for o in before.overlays}) == 3
    assert "1 of 2 annotated objects found, 0 false" in before.alt
    assert "2 of 2 annotated objects found, 1 false" in after.alt


def test_of_a_large_picture_the_part_with_most_changes_is_shown():
    cluster = [[1500 + 30 * i, 900, 1520 + 30 * i, 920] for i in range(5)]
    boxes = [[20, 20, 40, 40], *cluster]
    raw = np.zeros((1200, 2000, 3), np.uint8)
    pair = _pair(raw, raw, _matches(boxes, [0.1] * 6), _matches(boxes, [0.9] * 6))
    before, after = panels(pair, {1: "cat"})
    for panel in (before, after):
        assert panel.image.shape[1] == pytest.approx(640, abs=1)
        assert panel.image.shape[0] == pytest.approx(384, abs=1)
        assert "a part of the picture" in panel.alt
    placed = {o.colour: o.boxes for o in after.overlays}[FOUND]
    inside = ((placed[:, :2] >= 0) & (placed[:, 2:] <= [640, 384])).all(axis=1)
    assert inside.tolist() == [False, True, True, True, True, True]
    np.testing.assert_allclose(np.diff(placed[1:, 0]), 30)
    assert "6 of 6" in after.alt


def test_a_small_picture_is_enlarged_to_hold_the_lines():
    raw = np.arange(100 * 80 * 3, dtype=np.uint8).reshape(100, 80, 3)
    box = [[10, 10, 50, 50]]
    before, _ = panels(_pair(raw, raw, _matches(box, [0.1]), _matches(box, [0.9])), {1: "ä"})
    assert before.image.shape == (400, 320, 3)
    np.testing.assert_array_equal(before.image[::4, ::4], raw)
    (missed,) = [o for o in before.overlays if o.colour == MISSED]
    assert missed.boxes.tolist() == [[40, 40, 200, 200]]
    assert missed.labels == ["missed ?"]
