"""``llie sam --boxes`` takes prompts from texts or COCO annotations, and compares masks with annotated ones."""

import json

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
from segment_anything import SamPredictor
from segment_anything.utils.amg import calculate_stability_score

from detection_eval.metrics.masks import box_agreement, match_scores
from detection_eval.sam.sam_choice import SamChoice
from llie_preproc.checkpoints import save_state_dict
from llie_preproc.pictures import Picture, read_picture, write_picture
from llie_preproc.segmentation import build_sam
from tests.support.sam_pictures import BOXES, FAST, SIZE, read_scores


@pytest.fixture
def surer(tmp_path):
    """Weights of a SAM with logits far beyond 1. With other random weights logits are small and no mask is stable."""
    model = SamChoice("small").build()
    with torch.no_grad():
        for network in model.mask_decoder.output_hypernetworks_mlps:
            network.layers[-1].weight.mul_(100)
    save_state_dict(model.state_dict(), tmp_path / "surer.safetensors")
    return tmp_path / "surer.safetensors"


def test_scores_of_box_prompts_equal_those_of_sams_own_predictor(sam, pictures, texts, brighter, surer, tmp_path):
    out = tmp_path / "out"
    given = ("--boxes", texts, "--enhancer", "none", brighter, "--sam-checkpoint", surer)
    assert sam(pictures, out, *given)[0] == 0
    results, rows = read_scores(out)
    assert results["asked"] == {"boxes": 3}
    assert list(rows["none"]) == ["predicted_iou", "stability_score", "box_agreement"]
    assert all(0.05 < each < 0.95 for each in rows["none"].values())
    predictor = SamPredictor(build_sam("small", surer))
    expected = []
    for name in ("a", "b"):
        predictor.set_image(read_picture(pictures / f"{name}.png").pixels)
        for x1, y1, x2, y2 in BOXES[name]:
            # A box of DARK FACE includes its last pixel.
            edges = np.array([x1, y1, x2 + 1, y2 + 1])
            logits, predicted, _ = predictor.predict(box=edges, multimask_output=False, return_logits=True)
            stability = calculate_stability_score(torch.from_numpy(logits), 0.0, 1.0)
            agreement = box_agreement(logits > 0, np.array([[x1, y1, x2 + 1 - x1, y2 + 1 - y1]]))
            expected.append([predicted[0], float(stability[0]), agreement[0]])
    assert list(rows["none"].values()) == pytest.approx(np.mean(expected, axis=0).tolist(), rel=1e-4)
    assert rows["brighter"] != rows["none"]


def _coco_file(path, masks):
    """Write COCO annotations: a polygon, an RLE, a box without a mask, a crowd, and a box of no size."""
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
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 4:14, 4:14] = masks[1] = True
    _coco_file(tmp_path / "truth.json", [_rle(mask) for mask in masks])
    return tmp_path / "truth.json"


def test_annotated_masks_are_compared_and_everything_loads_in_pycocotools(sam, pictures, annotated, tmp_path):
    out = tmp_path / "out"
    assert sam(pictures, out, "--boxes", annotated, "--reference", pictures, *FAST)[0] == 0
    results, rows = read_scores(out)
    assert results["asked"]["boxes"] == 3
    truth = COCO(str(out / "masks" / "boxes.json"))
    loaded = truth.loadRes(str(out / "masks" / "boxes" / "none.json"))
    found = [loaded.annToMask(loaded.anns[key]).astype(bool) for key in sorted(loaded.anns)]
    # The polygon covers the columns 8 to 31 and the rows 6 to 29.
    shapes = np.zeros((2, *SIZE), bool)
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


def test_a_picture_of_another_size_than_its_annotated_masks_is_left_out(sam, pictures, annotated, tmp_path):
    write_picture(pictures / "a.png", Picture(np.zeros((40, 64, 3), np.uint8)))
    code, _, err = sam(pictures, tmp_path / "out", "--boxes", annotated)
    assert code == 1
    assert "a.png: the picture has (40, 64) pixels" in err


def test_annotations_of_another_size_are_refused_even_if_masks_are_stored(sam, pictures, annotated, tmp_path):
    """The boxes may have been annotated in enlarged pictures."""
    truth = json.loads(annotated.read_text())
    truth["annotations"] = [each for each in truth["annotations"] if "segmentation" not in each]
    command = (pictures, tmp_path / "out", "--resume", "--boxes", annotated)
    for factor, expected in ((1, 0), (2, 1)):
        truth["images"][0].update(width=64 * factor, height=48 * factor)
        annotated.write_text(json.dumps(truth))
        code, _, err = sam(*command)
        assert code == expected
    assert "a.png: the picture has (48, 64) pixels (height, width), but its annotations say (96, 128)" in err
    assert read_scores(tmp_path / "out")[0]["pictures"] == 2


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
