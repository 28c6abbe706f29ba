"""``llie sam`` on pictures that are made here, with a small SAM of random weights."""

import inspect
import json
import os

import mmengine
import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("matplotlib", reason="needs the extra 'compare'")
pytest.importorskip("scipy", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from segment_anything import SamAutomaticMaskGenerator, SamPredictor
from segment_anything.utils.amg import calculate_stability_score

from detection_eval.metrics.masks import box_agreement, match_scores
from detection_eval.sam import measure_masks as sam_run
from detection_eval.sam.sam_choice import GENERATOR, UNTRAINED, SamChoice, generator_parameters
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.pictures import Picture, read_picture, write_picture
from llie_preproc.segmentation import EnhancedSamPredictor, build_sam

# Few points, and nothing filtered: random weights are sure of nothing.
_FAST = ["--generator", "points_per_side=3", "pred_iou_thresh=0", "stability_score_thresh=0", "box_nms_thresh=0.99"]
_SIZE = (48, 64)
BOXES = {"a": [(8, 6, 31, 29), (40, 20, 55, 43)], "b": [(10, 10, 40, 40)], "sub/c": []}


@pytest.fixture
def pictures(tmp_path):
    """Three pictures, one of them in a folder."""
    for number, name in enumerate(BOXES):
        _draw(tmp_path / "pictures" / f"{name}.png", number)
    return tmp_path / "pictures"


@pytest.fixture
def texts(tmp_path):
    for name, boxes in BOXES.items():
        path = tmp_path / "texts" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([str(len(boxes)), *(" ".join(map(str, box)) for box in boxes)]))
    return tmp_path / "texts"


@pytest.fixture
def brighter(tmp_path):
    """An enhancer."""
    (tmp_path / "brighter.py").write_text("enhancer = dict(type='GammaCorrection', gamma=0.5)")
    return f"brighter={tmp_path / 'brighter.py'}"


@pytest.fixture
def surer(tmp_path):
    """Weights of a SAM whose logits go far beyond 1: random ones stay within, and no mask is stable."""
    model = SamChoice("small").build()
    with torch.no_grad():
        for network in model.mask_decoder.output_hypernetworks_mlps:
            network.layers[-1].weight.mul_(100)
    save_state_dict(model.state_dict(), tmp_path / "surer.safetensors")
    return tmp_path / "surer.safetensors"


@pytest.fixture
def encoded(monkeypatch):
    """The shapes of what SAM was shown."""
    shapes = []
    plain = EnhancedSamPredictor.set_image

    def count(self, image, *arguments):
        shapes.append(image.shape)
        return plain(self, image, *arguments)

    monkeypatch.setattr(EnhancedSamPredictor, "set_image", count)
    return shapes


@pytest.fixture
def sam(llie):
    def run(images, out, *arguments):
        return llie("sam", "--images", images, "--out", out, "--sam", "small", *arguments)

    return run


def _draw(path, seed, repeat=1):
    rng = np.random.default_rng(seed)
    image = np.full((*_SIZE, 3), rng.integers(10, 60, 3), np.uint8)
    for _ in range(3):
        y, x = rng.integers(0, 30, 2)
        image[y : y + 18, x : x + 25] = rng.integers(0, 255, 3)
    write_picture(path, Picture(image.repeat(repeat, 0).repeat(repeat, 1)))


def _results(out):
    results = json.loads((out / "results.json").read_text())
    return results, {
        row["enhancer"]: {name: each["value"] for name, each in row["scores"].items()} for row in results["rows"]
    }


def test_a_picture_that_is_its_own_reference_scores_one(sam, pictures, brighter, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = sam(pictures, out, "--reference", pictures, "--enhancer", "none", brighter, *_FAST)
    assert code == 0
    results, rows = _results(out)
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


def test_masks_of_nothing_are_no_masks(sam, pictures, tmp_path):
    """Which SAM gives where no stability is asked for, of so flat a picture many."""
    write_picture(pictures / "flat.png", Picture(np.full((2, 300, 3), 99, np.uint8)))
    out = tmp_path / "out"
    assert sam(pictures, out, "--reference", pictures, *_FAST)[0] == 0
    assert _results(out)[1]["none"] == dict(mean_iou=1, recall50=1, recall75=1)
    assert "NaN" not in (out / "masks" / "automatic" / "none.json").read_text()


@pytest.mark.examples(1)
@pytest.mark.parametrize("oversize", ["resize", "crops"])
def test_masks_of_an_enlarging_enhancer_are_in_the_raw_frame(sam, pictures, texts, encoded, tmp_path, oversize):
    """Of 64 pixels a side SAM's 128, and of four times that."""
    out, labels = tmp_path / "out", []
    for scale in (2, 4):
        (tmp_path / f"x{scale}.py").write_text(f"enhancer = dict(type='Upscale', scale={scale}, mode='nearest')")
        labels.append(f"x{scale}={tmp_path / f'x{scale}.py'}")
    given = ("--reference", pictures, "--boxes", texts, "--limit", 1, "--oversize", oversize, *_FAST)
    assert sam(pictures, out, *given, "--enhancer", *labels)[0] == 0
    # Crops of x4 show SAM something else.
    assert _results(out)[1]["x2"]["mean_iou"] > 0.5
    for label in ("x2", "x4"):
        for task in ("automatic", "boxes"):
            masks = json.loads((out / "masks" / task / f"{label}.json").read_text())
            assert {tuple(each["segmentation"]["size"]) for each in masks} == {_SIZE}
    # The reference, and each enhancer's automatic masks and prompts; of x4 two layers of crops, since they overlap.
    assert len(encoded) == 5 + (4 + 16 if oversize == "crops" else 0)


def test_without_a_checkpoint_everything_says_that_the_scores_mean_nothing(sam, pictures, texts, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = sam(pictures, out, "--boxes", texts)
    assert code == 0
    assert printed.splitlines()[0] == UNTRAINED
    assert "mean nothing" in UNTRAINED
    assert (out / "table.md").read_text().splitlines()[0] == UNTRAINED
    assert UNTRAINED in (out / "report.html").read_text()
    assert _results(out)[0]["trained"] is False
    checkpoint = tmp_path / "sam.safetensors"
    save_state_dict(build_sam("small").state_dict(), checkpoint)
    trained = tmp_path / "trained"
    code, printed, _ = sam(pictures, trained, "--boxes", texts, "--sam-checkpoint", checkpoint)
    assert code == 0
    assert _results(trained)[0]["trained"] is True
    told = [printed, *(path.read_text() for path in (trained / "table.md", trained / "report.html"))]
    assert not any("mean nothing" in each for each in told)
    made = _results(trained)[0]["provenance"]
    assert checkpoint.name in made["SAM"]
    # Whatever the distribution is called that brings it.
    assert f"mmengine {mmengine.__version__}" in made["versions"]


def test_box_prompts_are_those_of_sams_own_predictor(sam, pictures, texts, brighter, surer, tmp_path):
    out = tmp_path / "out"
    given = ("--boxes", texts, "--enhancer", "none", brighter, "--sam-checkpoint", surer)
    assert sam(pictures, out, *given)[0] == 0
    results, rows = _results(out)
    assert results["asked"] == {"boxes": 3}
    assert list(rows["none"]) == ["predicted_iou", "stability_score", "box_agreement"]
    assert all(0.05 < each < 0.95 for each in rows["none"].values())
    predictor = SamPredictor(build_sam("small", surer))
    expected = []
    for name in ("a", "b"):
        predictor.set_image(read_picture(pictures / f"{name}.png").pixels)
        for x1, y1, x2, y2 in BOXES[name]:
            # The last pixel belongs to DARK FACE's boxes.
            edges = np.array([x1, y1, x2 + 1, y2 + 1])
            logits, predicted, _ = predictor.predict(box=edges, multimask_output=False, return_logits=True)
            stability = calculate_stability_score(torch.from_numpy(logits), 0.0, 1.0)
            agreement = box_agreement(logits > 0, np.array([[x1, y1, x2 + 1 - x1, y2 + 1 - y1]]))
            expected.append([predicted[0], float(stability[0]), agreement[0]])
    assert list(rows["none"].values()) == pytest.approx(np.mean(expected, axis=0).tolist(), rel=1e-4)
    assert rows["brighter"] != rows["none"]


def _coco_file(path, masks):
    """COCO annotations: a polygon, an RLE, a box without a mask, a crowd, a box of no size."""
    shapes = [[[8, 6, 32, 6, 32, 30, 8, 30]], masks[0], None, masks[1], masks[1]]
    boxes = [[8, 6, 24, 24], [4, 4, 10, 10], [30, 10, 20, 20], [0, 0, 64, 48], [5, 5, 0, 8]]
    annotations = [
        dict(id=number, image_id=1, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=int(number == 3))
        | ({} if shape is None else dict(segmentation=shape))
        for number, (box, shape) in enumerate(zip(boxes, shapes, strict=True))
    ]
    images = [dict(id=n, file_name=f"{name}.png", width=64, height=48) for n, name in enumerate(BOXES, 1)]
    truth = dict(images=images, annotations=annotations, categories=[dict(id=1, name="object")])
    path.write_text(json.dumps(truth))


def _rle(mask):
    rle = coco_masks.encode(np.asfortranarray(mask, np.uint8))
    return dict(rle, counts=rle["counts"].decode())


@pytest.fixture
def annotated(tmp_path):
    masks = np.zeros((2, *_SIZE), bool)
    masks[0, 4:14, 4:14] = masks[1] = True
    _coco_file(tmp_path / "truth.json", [_rle(mask) for mask in masks])
    return tmp_path / "truth.json"


def test_annotated_masks_are_compared_and_everything_loads_in_pycocotools(sam, pictures, annotated, tmp_path):
    out = tmp_path / "out"
    assert sam(pictures, out, "--boxes", annotated, "--reference", pictures, *_FAST)[0] == 0
    results, rows = _results(out)
    assert results["asked"]["boxes"] == 3
    truth = COCO(str(out / "masks" / "boxes.json"))
    loaded = truth.loadRes(str(out / "masks" / "boxes" / "none.json"))
    found = [loaded.annToMask(loaded.anns[key]).astype(bool) for key in sorted(loaded.anns)]
    # The polygon holds the pixels 8 to 31 and 6 to 29.
    shapes = np.zeros((2, *_SIZE), bool)
    shapes[0, 6:30, 8:32] = shapes[1, 4:14, 4:14] = True
    iou = [np.mean((mask & shape).sum() / (mask | shape).sum()) for mask, shape in zip(found, shapes, strict=False)]
    assert rows["none"]["iou"] == pytest.approx(np.mean(iou))
    assert sorted("segmentation" in each for each in truth.anns.values()) == [False, True, True]
    automatic = COCO(str(out / "masks" / "automatic.json"))
    assert [each["file_name"] for each in automatic.imgs.values()] == ["a.png", "b.png", "sub/c.png"]
    mine = automatic.loadRes(str(out / "masks" / "automatic" / "none.json"))
    for image in automatic.getImgIds():
        masks = [[coco.annToMask(coco.anns[key]).astype(bool) for key in coco.getAnnIds([image])]
                 for coco in (mine, automatic)]  # fmt: skip
        assert match_scores(*masks)["mean_iou"].tolist() == [1] * len(masks[0])
    assert all(each["area"] == automatic.annToMask(each).sum() for each in automatic.anns.values())
    assert {"predicted_iou", "mean_iou"} < rows["none"].keys()


def test_masks_are_made_once(sam, pictures, texts, brighter, encoded, tmp_path):
    out = tmp_path / "out"
    command = (pictures, out, "--reference", pictures, "--boxes", texts, *_FAST, "--enhancer", "none")
    assert sam(*command)[0] == 0
    # The references, the rows' pictures, and again those that have prompts.
    assert len(encoded) == 3 + 3 + 2
    first = _results(out)
    code, _, err = sam(*command)
    assert code == 2
    told = "holds results of an earlier run: use --resume to continue it, or choose another --out"
    assert err == f"llie: error: {out} {told}\n"
    command = (*command[:2], "--resume", *command[2:])
    assert sam(*command)[0] == 0
    assert len(encoded) == 8
    assert _results(out)[0]["rows"] == first[0]["rows"]
    assert sam(*command, brighter)[0] == 0
    assert len(encoded) == 8 + 5
    _draw(pictures / "b.png", 9)
    assert sam(*command)[0] == 0
    # It is its own reference, too.
    assert len(encoded) == 13 + 3
    (texts / "b.txt").write_text("1\n1 1 20 20\n")
    assert sam(*command)[0] == 0
    assert len(encoded) == 16 + 1


def test_an_interrupted_run_goes_on(sam, pictures, texts, encoded, tmp_path, monkeypatch):
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
def test_what_was_made_with_something_else_is_refused(sam, pictures, brighter, encoded, tmp_path):
    out = tmp_path / "out"
    command = (pictures, out, "--resume", "--reference", pictures, "--limit", 1, "--enhancer", brighter)
    assert sam(*command, *_FAST)[0] == 0
    done = len(encoded)
    code, _, err = sam(*command, *_FAST, "min_mask_region_area=5")
    assert code == 2
    assert "a.png.json was made with another generator min_mask_region_area (0, now 5): choose" in err
    (tmp_path / "brighter.py").write_text("enhancer = dict(type='GammaCorrection', gamma=0.3)")
    code, _, err = sam(*command, *_FAST)
    assert code == 2
    assert "was made with another enhancer" in err
    code, _, err = sam(*command, *_FAST, "--oversize", "crops")
    assert code == 2
    assert "oversize ('resize', now 'crops')" in err
    kept = out / "kept" / "automatic" / "brighter" / "a.png.json"
    for damage in (_cut, _longer, _not_run_lengths, _no_score, _nested, _a_pipe):
        whole = kept.read_bytes()
        damage(kept)
        code, _, err = sam(*command, *_FAST)
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
    """Runs beyond the frame, which pycocotools would follow."""
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


@pytest.mark.parametrize("scale", [2, 3])
def test_a_larger_reference_is_compared_in_the_raw_frame(sam, pictures, encoded, tmp_path, scale):
    for number, name in enumerate(BOXES):
        _draw(tmp_path / "large" / f"{name}.png", number, repeat=scale)
    out = tmp_path / "out"
    assert sam(pictures, out, "--reference", tmp_path / "large", "--limit", 2, *_FAST)[0] == 0
    _, rows = _results(out)
    # SAM's resizing of the enlarged picture blurs less.
    assert rows["none"]["mean_iou"] > 0.6
    reference = json.loads((out / "masks" / "automatic.json").read_text())
    assert {tuple(each["segmentation"]["size"]) for each in reference["annotations"]} == {_SIZE}


def test_a_reference_of_another_size_and_a_missing_one_are_named(sam, pictures, tmp_path):
    references = tmp_path / "references"
    _draw(references / "a.png", 0)
    write_picture(references / "b.png", Picture(np.zeros((48, 100, 3), np.uint8)))
    code, printed, err = sam(pictures, tmp_path / "out", "--reference", references, *_FAST)
    assert code == 1
    assert "2 left out" in err
    assert "has 100x48 pixels, expected 64x48" in err
    assert "sub/c.png: there is no reference" in err
    assert "- pictures: 1\n" in printed
    assert "b.png" in (tmp_path / "out" / "report.html").read_text()


def test_a_bad_picture_is_left_out_of_all_rows(sam, pictures, texts, brighter, tmp_path):
    (pictures / "b.png").write_bytes(b"no picture")
    code, _, err = sam(pictures, tmp_path / "out", "--boxes", texts, "--enhancer", "none", brighter)
    assert code == 1
    assert "b.png: not a picture" in err
    results, _ = _results(tmp_path / "out")
    assert (results["pictures"], results["asked"]["boxes"]) == (2, 2)


def test_a_picture_of_another_size_than_its_annotated_masks_is_left_out(sam, pictures, annotated, tmp_path):
    write_picture(pictures / "a.png", Picture(np.zeros((40, 64, 3), np.uint8)))
    code, _, err = sam(pictures, tmp_path / "out", "--boxes", annotated)
    assert code == 1
    assert "a.png: the picture has (40, 64) pixels" in err


def test_annotations_of_other_sizes_are_refused_whatever_is_on_disk(sam, pictures, annotated, tmp_path):
    """Boxes of enlarged pictures, for one."""
    truth = json.loads(annotated.read_text())
    truth["annotations"] = [each for each in truth["annotations"] if "segmentation" not in each]
    command = (pictures, tmp_path / "out", "--resume", "--boxes", annotated)
    for factor, expected in ((1, 0), (2, 1)):
        truth["images"][0].update(width=64 * factor, height=48 * factor)
        annotated.write_text(json.dumps(truth))
        code, _, err = sam(*command)
        assert code == expected
    assert "a.png: the picture has (48, 64) pixels (height, width), but its annotations say (96, 128)" in err
    assert _results(tmp_path / "out")[0]["pictures"] == 2


def test_the_page_shows_pictures_of_every_row(sam, pictures, texts, brighter, tmp_path):
    arguments = ("--reference", pictures, "--boxes", texts, "--enhancer", "none", brighter, *_FAST)
    assert sam(pictures, tmp_path / "out", *arguments)[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "most mean_iou lost against raw" in page
    # Raw, enhanced and reference, and raw and enhanced of the prompts, of each picture shown.
    assert page.count("<img ") == page.count('alt="') == 5 * page.count("<h3>")
    assert "brighter: masks " in page
    assert "automatic masks, minus raw" in page


def test_pictures_without_any_mask_score_nothing_and_are_made_once(sam, pictures, encoded, tmp_path):
    arguments = ("--resume", "--reference", pictures, "--generator", "points_per_side=2", "pred_iou_thresh=5")
    code, printed, _ = sam(pictures, tmp_path / "out", *arguments)
    assert code == 0
    assert "| raw | 0 | – | – | – |" in printed
    assert "reference masks: 0, so there is nothing to score" in printed
    assert len(encoded) == 6
    assert sam(pictures, tmp_path / "out", *arguments)[0] == 0
    assert len(encoded) == 6


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda truth: truth["images"][0].pop("file_name"), "images[0] has no field 'file_name'"),
        (lambda truth: truth["annotations"][0].update(segmentation=[["x"]]), "the segmentation of annotation 0"),
        (lambda truth: truth["annotations"][1].update(segmentation={"size": [4]}), "the segmentation of annotation 1"),
        (
            lambda truth: truth["annotations"][1].update(segmentation={"size": [2, 2], "counts": "12"}),
            "the runs of a mask cover 3 pixels",
        ),
        (lambda truth: truth["annotations"][0].pop("bbox"), "annotations[0] has no field 'bbox'"),
        (lambda truth: [each.update(file_name="z") for each in truth["images"][:1]], "there is no picture z"),
        (
            lambda truth: [each.update(file_name="z") for each in truth["images"]],
            "images[1]: file_name 'z' stands at [0] already",
        ),
    ],
)
def test_bad_annotations_are_named(sam, pictures, annotated, tmp_path, change, message):
    truth = json.loads(annotated.read_text())
    change(truth)
    annotated.write_text(json.dumps(truth))
    code, _, err = sam(pictures, tmp_path / "out", "--boxes", annotated)
    assert code in (1, 2)
    assert message in err


def test_crops_take_their_layers_from_the_picture():
    parameters = generator_parameters(["points_per_side=8"], "crops")
    assert parameters.keys() == GENERATOR.keys() - {"crop_n_layers"}
    assert (parameters["points_per_side"], parameters["crop_n_points_downscale_factor"]) == (8, 2)


def test_the_generators_defaults_are_segment_anythings():
    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    assert {name: theirs[name].default for name in GENERATOR} == dict(GENERATOR)
    assert theirs.keys() - GENERATOR.keys() == {"model", "point_grids", "output_mode"}
