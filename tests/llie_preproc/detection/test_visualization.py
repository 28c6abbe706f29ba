"""``EnhancedVisualizationHook`` draws on the picture that the detector saw, and boxes lie on their objects."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

import cv2
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from mmcv.image import imresize
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from llie_preproc.detection import EnhancedVisualizationHook, add_enhancer
from llie_preproc.detection.visualization import DrawingNames, picture_folders
from tests.support.made_sets import boxes_of, bright_box, test_runner
from tests.support.mmdet_models import build

GAMMA = {"type": "GammaCorrection", "gamma": 0.5}
UPSCALE = {"type": "Upscale", "scale": 2, "mode": "nearest"}
RESIZE = dict(type="Resize", scale=(72, 72), keep_ratio=True)
PAD = dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0)))
PACK = dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip"))
DOORS = {
    "plain": None,
    "after loading": dict(door="transform", position="after_load"),
    "before packing": dict(door="transform"),
    "preprocessor": dict(door="preprocessor"),
    "detector": dict(door="detector"),
}
SIZES = [(64, 96), (80, 64)]
"""Sizes (height, width) of the pictures in the set that ``test_runner`` writes."""


def load(**annotations):
    return [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True, **annotations)]


def run(folder, door, enhancer, steps, loop="test", perfect=True, **options):
    """Arguments that the visualizer got for each picture."""
    preprocessor = dict(type="DetDataPreprocessor", pad_size_divisor=32, pad_mask=True)
    cfg = Config(dict(model=dict(type="PerfectDetector", data_preprocessor=preprocessor), pipeline=steps))
    cfg = add_enhancer(cfg, enhancer, **door) if door else cfg
    hook = dict(type="llie_preproc.EnhancedVisualizationHook", **{"draw": True, "interval": 1, **options})
    more = dict(visualizer=dict(type="DetLocalVisualizer"), custom_hooks=[hook])
    runner = test_runner(cfg.model, cfg.pipeline, folder, folder / "run", **more)
    handed = []
    drawing = runner.visualizer.add_datasample
    runner.visualizer.add_datasample = lambda **given: (handed.append(given), drawing(**given))
    scores = getattr(runner, loop)()
    assert (scores["coco/bbox_mAP"] == 1.0) == perfect
    return handed


def raw_picture(folder, number):
    return cv2.imread(str(folder / "pictures" / f"set_{number + 1}.png"))[..., ::-1]


def brightened(picture):
    return 255 * (picture / 255.0) ** 0.5


def enlarged(picture):
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def resized(picture):
    height, width = picture.shape[:2]
    factor = 72 / max(height, width)
    return imresize(picture, (int(width * factor + 0.5), int(height * factor + 0.5)))


def check_boxes(given, tolerance):
    instances = given["data_sample"].pred_instances
    for channel, box in enumerate(instances.bboxes.tolist()):
        # The picture is RGB, the rectangles are blue and green.
        assert box == pytest.approx(bright_box(given["image"], 2 - channel), abs=tolerance)


@pytest.mark.examples(5)
@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize(("enhancer", "effect"), [(GAMMA, brightened), (UPSCALE, enlarged)], ids=["gamma", "x2"])
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_the_picture_is_what_the_detector_saw(door, enhancer, effect, pad, tmp_path):
    handed = run(tmp_path, door, enhancer, [*load(), RESIZE, *[PAD] * pad, PACK])
    assert len(handed) == len(SIZES)
    for number, given in enumerate(handed):
        raw = raw_picture(tmp_path, number)
        if door is None:
            expected = resized(raw)
        elif door.get("position") == "after_load":
            expected = resized(effect(raw).round().astype(np.uint8))
        else:
            expected = effect(resized(raw)).round()
        assert given["image"].dtype == np.uint8
        assert given["image"].shape == expected.shape
        assert np.abs(given["image"].astype(int) - expected).max() <= 1
        check_boxes(given, tolerance=2)


@pytest.mark.examples(2)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_masks_lie_on_their_objects(door, tmp_path):
    for given in run(tmp_path, door, UPSCALE, [*load(with_mask=True), PACK], side_by_side=True):
        masks = given["data_sample"].pred_instances.masks.numpy()
        assert masks.shape[1:] == given["image"].shape[:2]
        for channel, (left, right) in enumerate(zip(masks[:2], masks[2:], strict=True)):
            bright = given["image"][..., 2 - channel] > 110
            assert np.array_equal(left | right, bright)
            assert left.any()
            assert right.any()


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_the_raw_picture_is_drawn_beside_the_other_with_the_same_boxes(door, tmp_path):
    for number, given in enumerate(run(tmp_path, door, GAMMA, [*load(), RESIZE, PACK], side_by_side=True)):
        left, right = np.split(given["image"], 2, axis=1)
        assert np.array_equal(left, resized(raw_picture(tmp_path, number)))
        first, second = given["data_sample"].pred_instances.bboxes.split(2)
        assert torch.equal(second - first, torch.tensor([[right.shape[1], 0, right.shape[1], 0]] * 2).float())
        for channel, box in enumerate(first.tolist()):
            assert box == pytest.approx(bright_box(left, 2 - channel), abs=2)
        assert not given["draw_gt"]


@pytest.mark.examples(3)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("late", [False, True])
def test_the_truth_lies_on_its_objects_wherever_the_pipeline_loads_it(late, door, tmp_path):
    image, annotations = load()
    steps = [image, RESIZE, annotations, PACK] if late else [image, annotations, RESIZE, PACK]
    # Boxes loaded after the resize stay in the raw frame, where the perfect detector does not expect them.
    for given in run(tmp_path, door, UPSCALE, steps, perfect=not late, ground_truth=True):
        truth = given["data_sample"].gt_instances
        assert given["draw_gt"]
        assert truth.labels.tolist() == [0, 1]
        for channel, box in enumerate(truth.bboxes.tolist()):
            assert box == pytest.approx(bright_box(given["image"], 2 - channel), abs=2)


@pytest.mark.parametrize("loop", ["test", "val"])
def test_the_interval_chooses_the_pictures_to_draw(loop, tmp_path):
    steps = [*load(), PACK]
    assert len(run(tmp_path, None, GAMMA, steps, loop, interval=1)) == 2
    (given,) = run(tmp_path, None, GAMMA, steps, loop, interval=2, score_thr=0.7)
    assert given["pred_score_thr"] == 0.7
    assert given["name"] == f"{loop}_img"
    assert run(tmp_path, None, GAMMA, steps, loop, draw=False) == []


def test_drawings_are_written_under_the_pictures_names(tmp_path):
    run(tmp_path, DOORS["detector"], UPSCALE, [*load(), PACK], test_out_dir="drawn")
    written = {path.name: cv2.imread(str(path)) for path in (tmp_path / "run").rglob("drawn/*.png")}
    assert sorted(written) == ["set_1.png", "set_2.png"]
    for (height, width), name in zip(SIZES, sorted(written), strict=True):
        assert written[name].shape[:2] == (2 * height, 2 * width)
        # The drawn frame changes the rectangle's colour at its edges.
        x1, y1, x2, y2 = (2 * n for n in boxes_of(height, width)[1])
        edges = written[name][(y1 + y2) // 2, [x1, x2 - 1]]
        assert not np.array_equal(edges, np.array([[20, 200, 20]] * 2))


def drawn(names, folder="/data/set"):
    """Paths, relative to the output folder, at which the hook writes drawings of a set's pictures."""

    class Recorder:
        work_dir, timestamp, iter = "/runs", "now", 0

        def __init__(self):
            self.files, self.visualizer = [], self
            self.model = build(dict(type="PerfectDetector", data_preprocessor=dict(type="DetDataPreprocessor")))
            self.test_dataloader = SimpleNamespace(dataset=SimpleNamespace(data_prefix=dict(img=folder)))

        def add_datasample(self, out_file, **given):
            self.files.append(out_file)

    runner = Recorder()
    hook = EnhancedVisualizationHook(draw=True, interval=1, test_out_dir="drawn")
    hook.before_test_epoch(runner)
    nothing = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
    for name in names:
        meta = dict(ori_shape=(8, 10), img_path=name, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta, pred_instances=InstanceData(**nothing))
        hook.after_test_iter(runner, 0, {"inputs": [torch.zeros(3, 8, 10, dtype=torch.uint8)]}, [sample])
    return [Path(os.path.normpath(file)).relative_to("/runs/now/drawn").as_posix() for file in runner.files]


def test_drawings_keep_the_folders_of_their_set():
    names = ["cam1/0001.png", "cam2/0001.png", "0001.png", "0001.jpg"]
    assert drawn([f"/data/set/{name}" for name in names]) == names


def test_a_joined_set_keeps_its_folders_apart():
    sets = [SimpleNamespace(data_prefix=dict(img=f"/data/{name}")) for name in "ab"]
    joined = SimpleNamespace(datasets=[sets[0], SimpleNamespace(dataset=sets[1])])
    names = DrawingNames(picture_folders(joined))
    assert [names.of(f"/data/{name}/1.png").as_posix() for name in "ab"] == ["a/1.png", "b/1.png"]


parts = st.sampled_from(["..", ".", "cam1", "cam2", "a", "elsewhere", "data", "set"])
pictures = st.builds(
    lambda start, folders, name: "/".join([start, *folders, name]),
    st.sampled_from(["", ".", "/data/set", "data", "/data/set/elsewhere/data"]),
    st.lists(parts, max_size=4),
    st.sampled_from(["1.png", "1.jpg", "1_2.png"]),
)


@settings(max_examples=200, deadline=None)
@for_all(st.lists(pictures, min_size=2, max_size=8), st.sampled_from(["/data/set", "set", "", "/"]))
def test_drawings_have_different_names_inside_the_folder(names, folder):
    found = DrawingNames([folder] if folder else [])
    files = [found.of(name) for name in names]
    assert not any(file.is_absolute() or ".." in file.parts for file in files)
    for name, file in zip(names, files, strict=True):
        assert found.of(name) == file
    sources = {os.path.normpath(Path.cwd() / name) for name in names}
    assert len(set(files)) == len(sources)


def test_flipped_and_augmented_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"set_1\.png.*flipped"):
        run(tmp_path, None, GAMMA, [*load(), dict(type="RandomFlip", prob=1.0), PACK])
    hook = EnhancedVisualizationHook(draw=True)
    sample = DetDataSample(pred_instances=InstanceData())
    with pytest.raises(ValueError, match="test-time augmentation"):
        hook.after_test_iter(None, 0, {"inputs": [[torch.zeros(3, 4, 4)] * 2]}, [sample])
    with pytest.raises(ValueError, match="interval must be a whole number of at least 1"):
        EnhancedVisualizationHook(interval=0)


def test_a_picture_without_detections_is_drawn(tmp_path):
    # Mask heads give an empty mask tensor if nothing is detected.
    model = build(dict(type="PerfectDetector", data_preprocessor=dict(type="DetDataPreprocessor")))
    sample = DetDataSample(metainfo=dict(ori_shape=(8, 10), img_path="a.png", scale_factor=(1.0, 1.0)))
    nothing = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())
    sample.pred_instances = InstanceData(**nothing, masks=torch.zeros(0, 8, 10).bool())

    class Recorder:
        iter, visualizer, work_dir = 0, None, ""

        def add_datasample(self, **given):
            self.given = given

    runner = Recorder()
    runner.model, runner.visualizer = model, runner
    image = torch.arange(3 * 8 * 10, dtype=torch.uint8).reshape(3, 8, 10)
    hook = EnhancedVisualizationHook(draw=True, channel_order="rgb")
    hook.after_test_iter(runner, 0, {"inputs": [image]}, [sample])
    assert np.array_equal(runner.given["image"], image.permute(1, 2, 0).numpy())
    assert len(runner.given["data_sample"].pred_instances) == 0
