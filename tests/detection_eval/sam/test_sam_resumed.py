"""``llie sam --resume``: masks are made once; damaged ones and those of other settings are refused."""

import json
import os

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from detection_eval.sam import measure_masks as sam_run
from tests.support.sam_pictures import FAST, draw_rectangles, read_scores


def test_masks_are_made_once(sam, pictures, texts, brighter, encoded, tmp_path):
    out = tmp_path / "out"
    command = (pictures, out, "--reference", pictures, "--boxes", texts, *FAST, "--enhancer", "none")
    assert sam(*command)[0] == 0
    # SAM encodes three references, three pictures for automatic masks, and two of these again for their prompts.
    assert len(encoded) == 3 + 3 + 2
    first = read_scores(out)
    code, _, err = sam(*command)
    assert code == 2
    told = "holds results of an earlier run: use --resume to continue it, or choose another --out"
    assert err == f"llie: error: {out} {told}\n"
    command = (*command[:2], "--resume", *command[2:])
    assert sam(*command)[0] == 0
    assert len(encoded) == 8
    assert read_scores(out)[0]["rows"] == first[0]["rows"]
    assert sam(*command, brighter)[0] == 0
    assert len(encoded) == 8 + 5
    draw_rectangles(pictures / "b.png", 9)
    assert sam(*command)[0] == 0
    # SAM encodes the new picture as a reference, for automatic masks and for its prompts.
    assert len(encoded) == 13 + 3
    (texts / "b.txt").write_text("1\n1 1 20 20\n")
    assert sam(*command)[0] == 0
    assert len(encoded) == 16 + 1


def test_pictures_without_any_mask_score_nothing_and_are_made_once(sam, pictures, encoded, tmp_path):
    arguments = ("--resume", "--reference", pictures, "--generator", "points_per_side=2", "pred_iou_thresh=5")
    code, printed, _ = sam(pictures, tmp_path / "out", *arguments)
    assert code == 0
    assert "| raw | 0 | – | – | – |" in printed
    assert "reference masks: 0, so there is nothing to score" in printed
    assert len(encoded) == 6
    assert sam(pictures, tmp_path / "out", *arguments)[0] == 0
    assert len(encoded) == 6


def test_an_interrupted_run_resumes(sam, pictures, texts, encoded, tmp_path, monkeypatch):
    command = (pictures, tmp_path / "out", "--boxes", texts)
    plain = sam_run.Looker.prompted

    def stop(self, seen, boxes):
        if encoded:
            raise KeyboardInterrupt
        return plain(self, seen, boxes)

    with monkeypatch.context() as patch:
        patch.setattr(sam_run.Looker, "prompted", stop)
        code, _, err = sam(*command)
        assert code == 130
        assert err.endswith("interrupted; --resume goes on\n")
    assert sam(*command, "--resume")[0] == 0
    assert len(encoded) == 2


@pytest.mark.further
def test_masks_that_are_damaged_or_of_other_settings_are_refused(sam, pictures, brighter, encoded, tmp_path):
    out = tmp_path / "out"
    command = (pictures, out, "--resume", "--reference", pictures, "--limit", 1, "--enhancer", brighter)
    assert sam(*command, *FAST)[0] == 0
    done = len(encoded)
    code, _, err = sam(*command, *FAST, "min_mask_region_area=5")
    assert code == 2
    assert "a.png.json was made with another generator min_mask_region_area (0, now 5): choose" in err
    (tmp_path / "brighter.py").write_text("enhancer = dict(type='GammaCorrection', gamma=0.3)")
    code, _, err = sam(*command, *FAST)
    assert code == 2
    assert "was made with another enhancer" in err
    code, _, err = sam(*command, *FAST, "--oversize", "crops")
    assert code == 2
    assert "oversize ('resize', now 'crops')" in err
    kept = out / "kept" / "automatic" / "brighter" / "a.png.json"
    for damage in (_cut, _longer, _not_run_lengths, _no_score, _nested, _a_pipe):
        whole = kept.read_bytes()
        damage(kept)
        code, _, err = sam(*command, *FAST)
        assert code == 2
        assert "a.png.json is damaged" in err
        kept.unlink()
        kept.write_bytes(whole)
    assert len(encoded) == done


def _cut(kept):
    kept.write_bytes(kept.read_bytes()[:40])


def _changed(kept, change):
    content = json.loads(kept.read_text())
    change(content["masks"][0])
    kept.write_text(json.dumps(content))


def _longer(kept):
    """Add run lengths beyond the picture, which pycocotools would follow."""
    _changed(kept, lambda mask: mask["segmentation"].update(counts=mask["segmentation"]["counts"] + "PPYo1"))


def _not_run_lengths(kept):
    _changed(kept, lambda mask: mask["segmentation"].update(counts="\x7f~~~"))


def _no_score(kept):
    _changed(kept, lambda mask: mask.update(predicted_iou=float("nan")))


def _nested(kept):
    kept.write_text("[" * 100_000)


def _a_pipe(kept):
    kept.unlink()
    os.mkfifo(kept)
