"""``llie sam`` scores masks of drawn pictures, here by a small SAM of random weights, and refuses bad options."""

import mmengine
import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from detection_eval.sam.sam_choice import GENERATOR, UNTRAINED
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.pictures import Picture, write_picture
from llie_preproc.segmentation import build_sam
from tests.support.sam_pictures import FAST, read_scores


def test_a_picture_that_is_its_own_reference_scores_one(sam, pictures, brighter, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = sam(pictures, out, "--reference", pictures, "--enhancer", "none", brighter, *FAST)
    assert code == 0
    results, rows = read_scores(out)
    assert rows["none"] == dict(mean_iou=1, recall50=1, recall75=1)
    assert results["asked"]["automatic"] == results["rows"][0]["masks"]["automatic"] > 3
    assert 0 < rows["brighter"]["mean_iou"] < 1
    assert results["rows"][1]["difference"]["mean_iou"]["value"] == pytest.approx(rows["brighter"]["mean_iou"] - 1)
    assert results["generator"] == dict(
        GENERATOR, points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=0.99
    )
    assert "points_per_side 3" in printed
    assert printed.split("\n", 1)[1].lstrip().startswith("| automatic masks | masks | mean_iou | recall50 | recall75 |")
    assert "| raw | " in printed
    lines = (out / "table.csv").read_text().splitlines()
    assert lines[0].startswith("enhancer,score,value,low,high,minus_raw")
    assert len(lines) == 1 + 2 * 3


def test_empty_masks_are_left_out(sam, pictures, tmp_path):
    """SAM gives many empty masks for so flat a picture if its threshold of stability is 0."""
    write_picture(pictures / "flat.png", Picture(np.full((2, 300, 3), 99, np.uint8)))
    out = tmp_path / "out"
    assert sam(pictures, out, "--reference", pictures, *FAST)[0] == 0
    assert read_scores(out)[1]["none"] == dict(mean_iou=1, recall50=1, recall75=1)
    assert "NaN" not in (out / "masks" / "automatic" / "none.json").read_text()


def test_without_a_checkpoint_everything_says_that_the_scores_mean_nothing(sam, pictures, texts, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = sam(pictures, out, "--boxes", texts)
    assert code == 0
    assert printed.splitlines()[0] == UNTRAINED
    assert "mean nothing" in UNTRAINED
    assert (out / "table.md").read_text().splitlines()[0] == UNTRAINED
    assert UNTRAINED in (out / "report.html").read_text()
    assert read_scores(out)[0]["trained"] is False
    checkpoint = tmp_path / "sam.safetensors"
    save_state_dict(build_sam("small").state_dict(), checkpoint)
    trained = tmp_path / "trained"
    code, printed, _ = sam(pictures, trained, "--boxes", texts, "--sam-checkpoint", checkpoint)
    assert code == 0
    assert read_scores(trained)[0]["trained"] is True
    told = [printed, *(path.read_text() for path in (trained / "table.md", trained / "report.html"))]
    assert not any("mean nothing" in each for each in told)
    made = read_scores(trained)[0]["provenance"]
    assert checkpoint.name in made["SAM"]
    # Forks of MMEngine install this package under other distribution names.
    assert f"mmengine {mmengine.__version__}" in made["versions"]


def test_a_bad_picture_is_left_out_of_all_rows(sam, pictures, texts, brighter, tmp_path):
    (pictures / "b.png").write_bytes(b"no picture")
    code, _, err = sam(pictures, tmp_path / "out", "--boxes", texts, "--enhancer", "none", brighter)
    assert code == 1
    assert "b.png: not a picture" in err
    results, _ = read_scores(tmp_path / "out")
    assert (results["pictures"], results["asked"]["boxes"]) == (2, 2)


def test_the_page_shows_pictures_of_every_row(sam, pictures, texts, brighter, tmp_path):
    arguments = ("--reference", pictures, "--boxes", texts, "--enhancer", "none", brighter, *FAST)
    assert sam(pictures, tmp_path / "out", *arguments)[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "most mean_iou lost against raw" in page
    # Each picture has automatic masks of raw, enhanced and reference, and prompted masks of raw and enhanced.
    assert page.count("<img ") == page.count('alt="') == 5 * page.count("<h3>")
    assert "brighter: masks " in page
    assert "automatic masks, minus raw" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sam needs --reference"),
        (["--boxes", "TEXTS", "--generator", "points_per_side=2"], "--generator sets parameters of automatic masks"),
        (["--reference", "IMAGES", "--generator", "points=2"], "KEY=VALUE with one of points_per_side, "),
        (["--reference", "IMAGES", "--generator", "points_per_side=0"], "expected a whole number from 1"),
        (["--reference", "IMAGES", "--generator", "points_per_side"], "points_per_side=: expected a whole number"),
        (["--reference", "IMAGES", "--generator", "box_nms_thresh=nan"], "expected a number from 0"),
        (["--reference", "IMAGES", "--generator", "crop_overlap_ratio=1.5"], "expected a number from 0 to 1"),
        (
            ["--reference", "IMAGES", "--generator", "crop_n_layers=2", "crop_n_points_downscale_factor=6"],
            "points_per_side=32, divided by crop_n_points_downscale_factor=6 for each of crop_n_layers=2, leaves no",
        ),
        (["--reference", "IMAGES", "--oversize", "crops", "--generator", "crop_n_layers=1"], "'crop_n_layers=1'"),
        (["--reference", "IMAGES", "--limit", "0"], "argument --limit: expected a whole number of at least 1, got '0'"),
        (["--reference", "IMAGES", "--enhancer", "none", "none"], "--enhancer names none twice"),
        (["--reference", "IMAGES", "--enhancer", "nothing"], "no enhancer 'nothing'"),
        (["--reference", "IMAGES", "--device", "nowhere"], "--device nowhere"),
        (["--reference", "IMAGES", "--sam-checkpoint", "public"], "no public weights for --sam small"),
        (["--reference", "IMAGES", "--sam-checkpoint", "missing.pth"], "missing.pth"),
        (["--reference", "nowhere"], "there is no folder nowhere of references"),
        (["--boxes", "nowhere"], "no folder nowhere"),
        (["--boxes", "nowhere.json"], "nowhere.json"),
        (["--boxes", "TEXTS", "--sam", "huge"], "argument --sam"),
    ],
)
def test_wrong_options_are_named(sam, pictures, texts, tmp_path, arguments, message):
    given = [{"TEXTS": texts, "IMAGES": pictures}.get(each, each) for each in arguments]
    code, _, err = sam(pictures, tmp_path / "out", *given)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out" / "results.json").exists()
