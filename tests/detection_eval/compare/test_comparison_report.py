"""``llie report`` writes a page whose tables and sentences agree with the files of the comparison."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.support import made_comparison
from tests.support.pages import Page

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'demo'")

from detection_eval.compare.changes import match
from detection_eval.compare.comparison_store import Comparison
from detection_eval.compare.tables import measure
from detection_eval.compare.verdict_sections import verdict
from llie_preproc.commands.llie import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a finished comparison with its page."""
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
    """Copy the comparison without its page, so that a test can damage it."""
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


def test_a_size_without_objects_has_a_dash_for_its_score(made, shown):
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
    assert "only once" not in said


@pytest.mark.parametrize("mode", ["zero-shot", "retrained", "joint"])
def test_a_verdict_on_two_single_trainings_says_so(mode):
    said = verdict(_difference(0.031, 0.012, 0.05, mode, seeds=(0,)))
    assert ("trained only once" in said) == (mode != "zero-shot")


def test_a_given_detector_has_no_training_seeds(tmp_path):
    out = made_comparison.write_comparison(tmp_path, images=2)
    plan = json.loads((out / "comparison.json").read_text())
    (out / "comparison.json").write_text(json.dumps({**plan, "detector_sha256": "0" * 64}))
    comparison = Comparison(out)
    comparison.save_table(measure(comparison))
    assert main(["report", str(out), "--changed", "0", "--quality-images", "0"]) == 0
    summary = Page((out / "report.html").read_text()).sections["Does it help?"]
    assert "annotated objects; nothing was trained." in summary
    assert "training seeds 0" not in summary


@pytest.mark.further
def test_one_test_picture_gives_no_verdict(tmp_path):
    out = made_comparison.write_comparison(tmp_path, images=1)
    comparison = Comparison(out)
    comparison.save_table(measure(comparison))
    assert main(["report", str(out), "--changed", "0", "--quality-images", "0"]) == 0
    summary = Page((out / "report.html").read_text()).sections["Does it help?"]
    assert "no verdict" in summary
    assert not re.search("helps|hurts", summary.removeprefix("Does it help?"))


def test_the_first_section_has_the_verdicts_and_their_limits(made, shown):
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


def test_markup_in_class_names_is_escaped(text, shown):
    assert "<b>" not in text
    assert "<b>dog & cat</b> (" in shown.sections["Average precision by class"]


def test_the_page_needs_no_other_file(text, shown):
    assert shown.needs() == []
    assert len(text) < 6e6


def test_the_page_names_the_command_that_scores_each_cell(made, shown):
    comparison = Comparison(made)
    provenance = shown.sections["How this page was made"]
    for cell in comparison.cells:
        assert f"score {comparison.truth_path} {comparison.detections_path(cell)}" in provenance
    for word in ("max_epochs: 12", "batch_size: 8", "torch: 2.0", comparison.plan["command"]):
        assert word in provenance


def test_texts_of_pictures_state_the_numbers_of_detections(made, shown):
    """The text of each picture counts its found objects and false detections at the threshold that the page names."""
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
    # The page rounds a threshold to three digits; no score lies between the rounded and the exact one.
    for kind, threshold in zip(("raw", label), thresholds, strict=True):
        matches = match(truth, [each for each in found[kind] if each["score"] > threshold - 5e-4])
        own = [alt for alt in alts if f".png, {kind}:" in alt]
        assert len(own) == len(alts) // 2
        for alt in own:
            m = matches[ids[alt.split(",")[0]]]
            taken = int(np.isfinite(m.found_at).sum())
            words = f"{taken} of {len(m.boxes)} annotated objects found, {len(m.false_boxes)} false detections"
            assert alt.endswith(words)


def test_image_quality_is_scored_on_the_sample_that_the_page_states(made, shown):
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
def test_a_comparison_without_a_raw_row_has_no_differences(made, tmp_path):
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


def test_a_folder_without_a_comparison_is_refused(tmp_path, capsys):
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
def test_a_table_with_missing_parts_is_named(change, says, made, tmp_path, capsys):
    out = _copy(made, tmp_path)
    _edit(out / "results.json", change)
    _fails(out, capsys, says, str(out))
