"""``llie compare`` makes a config for each mode: all keep the given budget and start from the same weights."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from detection_eval.compare import run_cells
from detection_eval.compare.cell_configs import testing_config as evaluation_config
from detection_eval.compare.cell_configs import training_config
from detection_eval.compare.comparison_store import MODES, RAW, Cell, Comparison
from detection_eval.compare.plan import Request, begin
from detection_eval.compare.truth import ground_truth
from detection_eval.shared.enhancers import enhancer_specs
from llie_preproc.commands.llie import main
from llie_preproc.detection.coco_sets import CocoSet, read_config, use_sets
from llie_preproc.mm.runner_parts import read_checkpoint, saved_checkpoints
from tests.support.tiny_detection import CLASSES, arguments, write_config, write_set

YOLOX = "mmdet::yolox/yolox_tiny_8xb8-300e_coco.py"
SSD = "mmdet::ssd/ssd300_coco.py"
VOC = "mmdet::pascal_voc/retinanet_r50_fpn_1x_voc0712.py"
DETR = "mmdet::detr/detr_r50_8xb2-150e_coco.py"


@pytest.fixture
def sets(tmp_path):
    return [CocoSet(*map(Path, write_set(tmp_path / name, 4, seed))) for seed, name in enumerate(("train", "test"))]


def _request(tmp_path, config, sets, options=None, modes=MODES):
    plain = use_sets(read_config(config, options or {}), *sets)
    specs = enhancer_specs(["psenet"])
    return Request(
        config=config, plain=plain, specs=specs, modes=modes, seeds=[0], folder=tmp_path / "out", resume=True
    )


@pytest.mark.examples(2)
@pytest.mark.parametrize("config", [YOLOX, SSD, VOC, DETR])
def test_every_mode_has_the_configs_own_budget(tmp_path, sets, config):
    request = _request(tmp_path, config, sets)
    comparison = begin(request)
    plain = request.plain
    for cell in comparison.cells:
        cfg = training_config(request, cell, comparison.cell_folder(cell))
        assert cfg.train_cfg == plain.train_cfg
        assert cfg.get("param_scheduler") == plain.get("param_scheduler")
        assert cfg.optim_wrapper.optimizer == plain.optim_wrapper.optimizer
        assert {k: v for k, v in cfg.train_dataloader.items() if k != "dataset"} == {
            k: v for k, v in plain.train_dataloader.items() if k != "dataset"
        }
        evaluation = evaluation_config(request, cell, tmp_path, comparison.truth_path, Path("x.pth"), None)
        assert evaluation.test_dataloader.dataset.ann_file == str(sets[1].annotations)
    # A second call resumes, so the plan that is read from the file must equal the plan that was written.
    assert begin(request).plan["budget"] == comparison.plan["budget"]


def test_a_plan_with_tuples_and_classes_can_be_resumed(tmp_path, sets):
    request = _request(tmp_path, YOLOX, sets)
    request.plain.train_cfg.dynamic_intervals = [(285, 1)]
    request.plain.optim_wrapper.optimizer.type = torch.optim.SGD
    assert begin(request).plan["budget"]["optimizer"] == "SGD"
    assert begin(request).plan["budget"]["train_cfg"]["dynamic_intervals"] == [[285, 1]]


def test_given_sets_replace_the_joined_sets_of_a_config(sets):
    cfg = use_sets(read_config(VOC, {}), *sets)
    assert cfg.train_dataloader.dataset.type == "RepeatDataset"
    inside = cfg.train_dataloader.dataset.dataset
    assert (inside.type, inside.ann_file) == ("llie_preproc.NameMatchedCocoDataset", str(sets[0].annotations))
    assert inside.pipeline
    assert cfg.model.bbox_head.num_classes == len(CLASSES)


def test_fields_of_the_replaced_dataset_are_dropped(sets):
    options = {
        "train_dataloader.dataset.label_file": "labels.csv",
        "train_dataloader.dataset.type": "OpenImagesDataset",
    }
    dataset = use_sets(read_config("mmdet::retinanet/retinanet_r18_fpn_1x_coco.py", options), *sets)
    assert "label_file" not in dataset.train_dataloader.dataset


def test_a_config_may_train_on_joined_sets(tmp_path, sets):
    config = str(write_config(tmp_path / "tiny.py"))
    request = _request(tmp_path, config, sets)
    one = request.plain.train_dataloader.dataset
    request.plain.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[one, one])
    budget = begin(request).plan["budget"]
    assert budget["train_images"] == 8
    assert budget["train_set"].count(str(sets[0].annotations)) == 2


@pytest.mark.examples(1)
@pytest.mark.parametrize(
    "given",
    [
        None,
        dict(interval=2, save_optimizer=False, save_param_scheduler=False, save_last=False),
        dict(out_dir="elsewhere", filename_tmpl="x_{}.pth", save_best="auto"),
    ],
)
def test_checkpoints_hold_all_that_a_resumed_training_needs(tmp_path, sets, given):
    request = _request(tmp_path, str(write_config(tmp_path / "tiny.py")), sets)
    request.plain.default_hooks.checkpoint = given
    cell, folder = Cell("none", RAW, 0), tmp_path / "cell"
    run_cells._train(training_config(request, cell, folder), cell, request)
    checkpoint = read_checkpoint(saved_checkpoints(folder)[-1])
    assert {"optimizer", "param_schedulers"} <= set(checkpoint)
    assert checkpoint["meta"]["iter"] == 4


def test_resume_in_a_config_is_turned_off(tmp_path, sets):
    request = _request(tmp_path, str(write_config(tmp_path / "tiny.py")), sets, {"resume": True, "load_from": "x.pth"})
    cfg = training_config(request, Cell("none", RAW, 0), tmp_path)
    assert (cfg.load_from, cfg.resume) == ("x.pth", False)


JOINT_CELL = Cell("psenet", "joint", 0)


class _Start(Hook):
    """Hook that records the weights and the random state at the start of a training, and stops it."""

    def before_train(self, runner):
        model = getattr(runner.model, "detector", runner.model)
        self.weights = {k: v.clone() for k, v in model.state_dict().items()}
        self.random = torch.get_rng_state()
        raise KeyboardInterrupt


@pytest.mark.slow
def test_every_mode_starts_from_the_same_weights(tmp_path, sets, monkeypatch):
    request = _request(tmp_path, str(write_config(tmp_path / "tiny.py")), sets)
    starts = []
    whole = run_cells._runner

    def watched(*given):
        runner = whole(*given)
        starts.append(_Start())
        runner.register_hook(starts[-1])
        return runner

    monkeypatch.setattr(run_cells, "_runner", watched)

    def begin_training(cell):
        with pytest.raises(KeyboardInterrupt):
            run_cells._train(training_config(request, cell, tmp_path / cell.name), cell, request)
        return starts[-1]

    raw, *others = map(begin_training, (Cell("none", RAW, 0), Cell("psenet", "retrained", 0), JOINT_CELL))
    for each in others:
        assert each.weights.keys() == raw.weights.keys()
        assert all(each.weights[key].equal(raw.weights[key]) for key in raw.weights)
        assert each.random.equal(raw.random)
    # As in MMEngine, keys of a checkpoint that the detector lacks are ignored: here those of another head.
    stored = {key: value + 1 for key, value in raw.weights.items()}
    torch.save(dict(state_dict={**stored, "mask_head.bias": torch.zeros(1)}, meta={}), tmp_path / "start.pth")
    request.plain.load_from = str(tmp_path / "start.pth")
    given = begin_training(JOINT_CELL)
    assert all(given.weights[key].equal(stored[key]) for key in stored)


def test_a_joint_enhancer_has_its_own_learning_rate(tmp_path, sets):
    config = str(write_config(tmp_path / "tiny.py"))
    for paramwise in (None, dict(norm_decay_mult=0.0), dict(custom_keys=dict(backbone=dict(lr_mult=0.5)))):
        request = _request(tmp_path, config, sets, {"optim_wrapper.paramwise_cfg": paramwise})
        cfg = training_config(request, Cell("psenet", "joint", 0), tmp_path / "cell")
        runner = Runner.from_cfg(cfg)
        groups = runner.build_optim_wrapper(cfg.optim_wrapper).param_groups
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        (of_enhancer,) = {rates[id(p)] for p in runner.model.enhancer.parameters()}
        (of_head,) = {rates[id(p)] for p in runner.model.detector.rpn_head.parameters()}
        assert of_enhancer == pytest.approx(0.1 * of_head)


@pytest.mark.parametrize("given", ["mapping", "file"])
def test_a_config_may_name_the_mapping_of_its_own_test_set(tmp_path, given):
    annotations, images = write_set(tmp_path / "set", 4, 3)
    mapping = {"vehicle": ["red", "green"]}
    (tmp_path / "classes.json").write_text(json.dumps(mapping))
    classes = mapping if given == "mapping" else str(tmp_path / "classes.json")
    dataset = dict(
        type="llie_preproc.NameMatchedCocoDataset",
        ann_file=annotations,
        data_prefix=dict(img=images),
        metainfo=dict(classes=("lamp", "vehicle")),
        classes=classes,
        pipeline=[],
    )
    evaluator = dict(type="llie_preproc.NameMatchedCocoMetric", ann_file=annotations, classes=classes)
    options = {"test_dataloader.dataset": dataset, "test_evaluator": evaluator}
    cfg = use_sets(read_config(str(write_config(tmp_path / "tiny.py")), options), None, None, trains=False)
    truth, _, match = ground_truth(cfg)
    assert truth["categories"] == [dict(id=1, name="vehicle", llie_merged=["red", "green"])]
    assert {each["category_id"] for each in truth["annotations"]} == {1}
    assert match.found_as == {"lamp": None, "vehicle": "vehicle"}


@pytest.mark.parametrize(
    "mapping", [{"red": "green", "green": "red"}, {"lamp": ["red", "green"]}, {"red": "red", "green": "red"}]
)
def test_a_mapping_of_a_set_whose_metric_names_no_file_is_followed_once(tmp_path, mapping):
    annotations, images = write_set(tmp_path / "set", 4, 3)
    classes = ("lamp", "red", "green") if "lamp" in mapping else ("red", "green")
    own = dict(ann_file=annotations, data_prefix=dict(img=images), metainfo=dict(classes=classes), pipeline=[])

    def read(file):
        # The config's own metric has a file, which None removes.
        evaluator = dict(type="CocoMetric", ann_file=file)
        options = {"test_dataloader.dataset": dict(own, type="CocoDataset"), "test_evaluator": evaluator}
        cfg = read_config(str(write_config(tmp_path / "tiny.py")), options)
        return ground_truth(use_sets(cfg, None, None, trains=False, mapping=mapping))

    without = read(None)
    assert without == read(annotations)
    whole = json.loads(Path(annotations).read_text())
    annotated = {each["id"]: each["name"] for each in whole["categories"]}
    truth, _, match = without
    scored = {each["id"]: each["name"] for each in truth["categories"]}
    for name, targets in mapping.items():
        boxes = [each["bbox"] for each in truth["annotations"] if scored[each["category_id"]] == match.found_as[name]]
        assert boxes == [each["bbox"] for each in whole["annotations"] if annotated[each["category_id"]] in targets]


@pytest.mark.parametrize("part", [dict(indices=3), dict(indices=[0, 2]), dict(filter_cfg=dict(filter_empty_gt=True))])
def test_a_part_of_the_annotated_pictures_is_refused(tmp_path, part):
    """Objects of pictures that no detector sees would count as missed."""
    annotations, images = write_set(tmp_path / "set", 4, 3)
    dataset = dict(type="CocoDataset", data_prefix=dict(img=images), metainfo=dict(classes=("red", "green")), **part)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    cfg.test_evaluator = dict(type="CocoMetric", ann_file=annotations)
    with pytest.raises(ValueError, match=rf"set\.json \({next(iter(part))}=.*, expected all pictures"):
        ground_truth(cfg)
    if "filter_cfg" in part:
        cfg.test_dataloader.dataset.test_mode = True
        assert len(ground_truth(cfg)[0]["images"]) == 4


def test_only_the_datasets_classes_are_scored(tmp_path):
    annotations, images = write_set(tmp_path / "set", 4, 3)
    dataset = dict(type="CocoDataset", data_prefix=dict(img=images), metainfo=dict(classes=("green",)))
    evaluator = dict(type="CocoMetric", ann_file=annotations)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset), test_evaluator=[evaluator]))
    truth, *_ = ground_truth(cfg)
    assert truth["categories"] == [dict(id=2, name="green")]
    all_annotations = json.loads(Path(annotations).read_text())["annotations"]
    assert truth["annotations"] == [each for each in all_annotations if each["category_id"] == 2]
    dataset["metainfo"] = dict(classes=("blue",))
    with pytest.raises(ValueError, match="the detector has no red, green, the set has no blue"):
        ground_truth(Config(dict(test_dataloader=dict(dataset=dataset), test_evaluator=evaluator)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--enhancer", "none=x.py"], "'none' is no label"),
        (["--enhancer", "../psenet"], "'../psenet' is no label"),
        (["--enhancer", "psenet", "--bootstrap-seed", "-1"], "--bootstrap-seed"),
        (["--enhancer", "psenet", "--enhancer-lr-mult", "nan"], "--enhancer-lr-mult"),
        (["--enhancer", "psenet", "--cfg-options", "test_dataloader.dataset=None"], "test_dataloader has no dataset"),
        (["--enhancer", "psenet", "--cfg-options", "param_scheduler.0.type=ReduceOnPlateauLR"], "ReduceOnPlateauLR"),
        (
            ["--enhancer", "psenet", "--modes", "joint", "--cfg-options", "optim_wrapper.constructor=LayerDecay"],
            "LayerDecay",
        ),
    ],
)
def test_settings_that_cells_cannot_share_are_refused(tmp_path, capsys, change, message):
    assert main([*arguments(tmp_path), *change]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_set_whose_folder_comes_first_is_refused(tmp_path, capsys):
    command = arguments(tmp_path)
    place = command.index("--test") + 1
    command[place : place + 2] = reversed(command[place : place + 2])
    assert main([*command, "--enhancer", "none"]) == 2
    error = capsys.readouterr().err
    assert "expected a COCO file and then its folder of pictures, got the folder first" in error
    assert error.count("\n") == 1


def test_a_missing_training_set_of_the_config_is_refused_with_both_ways_out(tmp_path, capsys):
    annotations, images = write_set(tmp_path / "set", 4, 3)
    command = ["compare", "--detector", "mmdet::yolox/yolox_nano_8xb8-300e_coco.py", "--test", annotations, images]
    assert main([*command, "--enhancer", "none", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "instances_train2017.json: no such file. It is the training set of the config: --train names" in error
    assert "--detector-checkpoint" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_config_is_an_error_of_one_line(capsys):
    assert main(["compare", "--detector", "nopackage::a/b.py", "--enhancer", "psenet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_resuming_with_other_training_annotations_is_refused(tmp_path, capsys):
    command = [*arguments(tmp_path), "--enhancer", "none", "--modes", "raw"]
    assert main(command) == 0
    train = Path(command[command.index("--train") + 1])
    content = json.loads(train.read_text())
    content["annotations"].pop()
    train.write_text(json.dumps(content))
    assert main([*command, "--resume"]) == 2
    assert "train_sha256" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_diverged_fails_only_its_cell(tmp_path, capsys, monkeypatch):
    command = [*arguments(tmp_path), "--enhancer", "identity", "--modes", "raw", "zero-shot"]
    whole = run_cells._evaluate

    def diverged(cfg, cell, *rest, **named):
        done = whole(cfg, cell, *rest, **named)
        if cell.mode == "zero-shot":
            path = Path(cfg.work_dir) / "detections.bbox.json"
            found = json.loads(path.read_text())
            found[0]["bbox"][2] = float("inf")
            path.write_text(json.dumps(found))
        return done

    monkeypatch.setattr(run_cells, "_evaluate", diverged)
    assert main(command) == 1
    assert "bbox" in capsys.readouterr().err
    comparison = Comparison(tmp_path / "out")
    assert [row["label"] for row in comparison.table()] == ["raw"]
    error = comparison.cell_folder(Cell("identity", "zero-shot", 0)) / "error.txt"
    assert error.is_file()
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0
    assert not error.exists()
