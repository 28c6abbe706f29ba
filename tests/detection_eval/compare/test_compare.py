"""``llie compare`` trains and scores a tiny detector for each cell, which is an enhancer, a mode and a seed."""

import csv
import json
import signal
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from detection_eval.compare.cell_enhancers import comparison_enhancer
from detection_eval.compare.comparison_store import Cell, Comparison
from detection_eval.metrics.coco import CocoScores
from detection_eval.metrics.detections import read_detections, read_truth
from llie_preproc import build_enhancer
from llie_preproc.commands.llie import main
from llie_preproc.mm.runner_parts import read_checkpoint
from tests.support.programs import command_line
from tests.support.tiny_detection import arguments, write_set

ALL_MODES = ["--modes", "raw", "zero-shot", "retrained", "joint"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The command and the result of a comparison of every mode with ``identity`` and ``psenet``."""
    folder = tmp_path_factory.mktemp("comparison")
    command = [*arguments(folder), "--enhancer", "none", "identity", "psenet", *ALL_MODES, "--seeds", "2"]
    assert main(command) == 0
    return command, Comparison(folder / "out")


def _state(comparison):
    return {p: p.stat().st_mtime_ns for p in comparison.folder.rglob("*") if p.parent.parent.name == "cells"}


@pytest.mark.slow
def test_every_cell_is_a_row_of_the_table(finished):
    _, comparison = finished
    labels = ["raw", "identity, zero-shot", "identity, retrained", "psenet, zero-shot", "psenet, retrained"]
    assert [row["label"] for row in comparison.table()] == [*labels, "psenet, joint"]
    assert all(row["seeds"] == [0, 1] for row in comparison.table())
    assert not comparison.unfinished()


@pytest.mark.slow
def test_identity_gives_the_raw_detections_bit_for_bit(finished):
    _, comparison = finished
    rows = {row["label"]: row for row in comparison.table()}
    for seed in (0, 1):
        raw = comparison.detections_path(Cell("none", "raw", seed)).read_bytes()
        for mode in ("zero-shot", "retrained"):
            assert comparison.detections_path(Cell("identity", mode, seed)).read_bytes() == raw
    for mode in ("zero-shot", "retrained"):
        row = rows[f"identity, {mode}"]
        assert row["scores"] == rows["raw"]["scores"]
        for change in row["difference"]["coco"].values():
            assert set(change.values()) in ({0.0}, {None})
    psenet = comparison.detections_path(Cell("psenet", "zero-shot", 0)).read_bytes()
    assert psenet != comparison.detections_path(Cell("none", "raw", 0)).read_bytes()


@pytest.mark.slow
def test_scores_equal_those_of_the_saved_detections(finished):
    _, comparison = finished
    truth = read_truth(comparison.truth_path)
    for row, line in zip(comparison.rows, comparison.table(), strict=True):
        values = []
        for cell in row.cells:
            scores = CocoScores(truth, read_detections(comparison.detections_path(cell), truth)).values()
            # MMDetection rounds its values to three digits.
            assert comparison.result(cell)["metrics"]["coco/bbox_mAP"] == pytest.approx(scores["AP"], abs=5.1e-4)
            assert comparison.result(cell)["metrics"]["coco/bbox_mAP_50"] == pytest.approx(scores["AP50"], abs=5.1e-4)
            values.append(scores["AP"])
        assert line["scores"]["coco"]["AP"]["value"] == pytest.approx(sum(values) / 2, abs=1e-12)


@pytest.mark.slow
def test_budgets_are_equal_and_times_are_measured(finished):
    _, comparison = finished
    results = {cell: comparison.result(cell) for cell in comparison.cells}
    trained = [r for cell, r in results.items() if cell.mode != "zero-shot"]
    assert {r["iterations"] for r in trained} == {4}
    for cell, result in results.items():
        assert result["timing"]["detector_ms"] > 0
        assert (result["timing"]["enhancer_ms"] is None) == (cell.enhancer == "none")
        assert (result["timing"]["train_seconds"] is None) == (cell.mode == "zero-shot")


@pytest.mark.slow
def test_the_joint_enhancer_was_trained_and_can_be_loaded(finished):
    _, comparison = finished
    shipped = build_enhancer("PSENet").state_dict()
    frozen = comparison_enhancer(comparison, Cell("psenet", "retrained", 0)).enhancer.state_dict()
    joint = comparison_enhancer(comparison, Cell("psenet", "joint", 0)).enhancer.state_dict()
    assert all(frozen[key].equal(shipped[key]) for key in shipped)
    assert any(not joint[key].equal(shipped[key]) for key in shipped)
    assert comparison_enhancer(comparison, Cell("none", "raw", 0)) is None


@pytest.mark.slow
def test_table_files_hold_the_results(finished):
    _, comparison = finished
    rows = comparison.table()
    lines = (comparison.folder / "table.md").read_text().splitlines()
    for row in rows:
        assert f"{100 * row['scores']['coco']['AP50']['value']:.1f}" in next(x for x in lines if row["label"] in x)
    with (comparison.folder / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows) * 6
    for line in table:
        row = next(r for r in rows if [r["enhancer"], r["mode"]] == [line["enhancer"], line["mode"]])
        value = row["scores"][line["metric"]][line["score"]]["value"]
        assert line["value"] == ("" if value is None else str(value))


@pytest.mark.slow
def test_finished_cells_are_not_run_again_and_more_can_be_added(finished, capsys):
    command, comparison = finished
    before, table = _state(comparison), comparison.table()
    assert main(command) == 2
    assert capsys.readouterr().err.endswith(": use --resume to continue it, or choose another --out\n")
    assert main([*command, "--resume"]) == 0
    assert _state(comparison) == before
    assert [{**row, "timing": None} for row in comparison.table()] == [{**row, "timing": None} for row in table]
    added = [*command[: command.index("--enhancer")], "--enhancer", "gamma_correction", "--modes", "zero-shot"]
    assert main([*added, "--resume"]) == 0
    assert "gamma_correction-zero-shot-seed0" in capsys.readouterr().err
    assert {p: t for p, t in _state(comparison).items() if p in before} == before
    assert "gamma_correction, zero-shot" in [row["label"] for row in comparison.table()]
    assert len(comparison.table()) == len(table) + 1


@pytest.mark.slow
def test_another_comparison_in_the_same_folder_is_refused(finished, capsys):
    command, comparison = finished
    before = _state(comparison)
    assert main([*command, "--resume", "--cfg-options", "train_cfg.max_iters=5"]) == 2
    assert "config_sha256" in capsys.readouterr().err
    assert main([*command, "--resume", "--enhancer-lr-mult", "1"]) == 2
    assert "enhancer_lr_mult" in capsys.readouterr().err
    assert _state(comparison) == before


@pytest.mark.slow
def test_enhanced_pictures_are_cached(finished):
    _, comparison = finished
    # Each of two enhancers has seen 6 training and 5 test pictures.
    assert len(list((comparison.folder / "cache").rglob("*.npy"))) >= 22


@pytest.mark.slow
def test_a_given_checkpoint_is_evaluated_without_training(finished, tmp_path, capsys):
    command, comparison = finished
    sets = command[1 : command.index("--resamples")]
    weights = comparison.folder / comparison.result(Cell("none", "raw", 1))["checkpoint"]
    given = ["compare", *sets, "--detector-checkpoint", str(weights), "--out", str(tmp_path / "as_is")]
    assert main([*given, "--enhancer", "psenet", "--resamples", "20"]) == 0
    own = Comparison(tmp_path / "as_is")
    assert [row["label"] for row in own.table()] == ["raw", "psenet, zero-shot"]
    for mode in ("raw", "zero-shot"):
        cell = Cell("none" if mode == "raw" else "psenet", mode, 0)
        earlier = comparison.detections_path(Cell(cell.enhancer, mode, 1))
        assert own.detections_path(cell).read_bytes() == earlier.read_bytes()
    assert main([*given, "--enhancer", "psenet", "--modes", "retrained"]) == 2
    assert "retrained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--enhancer", "psnet"], "no enhancer 'psnet'"),
        (["--enhancer", "semi_llie"], "SemiLLIE has no shipped weights: name some with --enhancer NAME@WEIGHTS"),
        (["--enhancer", "psenet@missing.pth"], "missing.pth"),
        (["--enhancer", "psenet", "psenet"], "--enhancer names psenet twice: put LABEL= before one of them"),
        (["--enhancer", "psenet", "--precision", "float16"], "PSENet is not faithful under float16"),
        (["--enhancer", "clahe", "--map-side", "32"], "map_side is for networks that predict a map of curves"),
        (["--enhancer", "psenet", "--device", "nowhere"], "--device nowhere"),
        (["--enhancer", "none", "--modes", "joint"], "joint"),
        (["--enhancer", "clahe", "--modes", "joint"], "nothing is left"),
        (["--enhancer", "none", "--seeds", "0", "--modes", "raw"], "--seeds"),
        (["--enhancer", "none", "--modes", "raw", "--metrics", "visdrone"], "llie annotations visdrone"),
        (["--enhancer", "mine=missing.py"], "missing.py"),
    ],
)
def test_wrong_calls_are_refused_before_anything_runs(tmp_path, capsys, change, message):
    assert main([*arguments(tmp_path), *change]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "cells").exists()


def test_an_enhancer_config_with_a_syntax_error_is_named(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("enhancer = dict(")
    assert main([*arguments(tmp_path), "--enhancer", f"mine={tmp_path / 'broken.py'}"]) == 2
    assert "broken.py" in capsys.readouterr().err


def test_a_missing_picture_is_named(tmp_path, capsys):
    command = [*arguments(tmp_path), "--enhancer", "none", "--modes", "raw"]
    (tmp_path / "test" / "3.png").unlink()
    assert main(command) == 2
    assert "3.png" in capsys.readouterr().err


def test_sets_of_different_classes_are_refused(tmp_path, capsys):
    command = [*arguments(tmp_path), "--enhancer", "none", "--modes", "raw"]
    path = Path(command[command.index("--test") + 1])
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "crimson"
    path.write_text(json.dumps(content))
    assert main(command) == 2
    assert "crimson" in capsys.readouterr().err
    (tmp_path / "classes.json").write_text('{"red": "scarlet"}')
    assert main([*command, "--classes", str(tmp_path / "classes.json")]) == 2
    assert "has no class 'scarlet'" in capsys.readouterr().err
    (tmp_path / "classes.json").write_text('{"red": "crimson"}')
    assert main([*command, "--classes", str(tmp_path / "classes.json")]) == 0
    assert "red is crimson" in capsys.readouterr().out


def test_a_config_that_enhances_already_is_refused(tmp_path, capsys):
    command = [*arguments(tmp_path), "--enhancer", "none", "--modes", "raw"]
    config = Path(command[2])
    config.write_text(
        config.read_text() + "test_dataloader['dataset'] = dict(pipeline=[dict(type='llie_preproc.PSENet')])\n"
    )
    assert main(command) == 2
    assert "llie_preproc.PSENet" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failing_cell_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    command = [*arguments(tmp_path), "--enhancer", "identity", "--modes", "raw", "zero-shot", "--seeds", "2"]
    from detection_eval.compare import run_cells as module

    whole = module.run_cell

    def failing(comparison, request, cell, *rest):
        if cell.seed == 0 and cell.mode == "raw":
            raise RuntimeError("out of luck")
        whole(comparison, request, cell, *rest)

    monkeypatch.setattr(module, "run_cell", failing)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "raw-seed0: RuntimeError: out of luck" in error
    assert "identity-zero-shot-seed0" in error
    assert {c.name for c in Comparison(tmp_path / "out").unfinished()} == {"raw-seed0", "identity-zero-shot-seed0"}
    monkeypatch.undo()
    assert main([*command, "--resume"]) == 0


def test_an_interrupted_training_resumes_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    command = [*arguments(tmp_path), "--enhancer", "none"]
    from llie_preproc.mm.progress import ProgressBar

    def interrupt(self, runner, *rest, **named):
        if runner.iter == 2:
            raise RuntimeError("power cut")

    monkeypatch.setattr(ProgressBar, "after_train_iter", interrupt)
    assert main(command) == 1
    cell, comparison = Cell("none", "raw", 0), Comparison(tmp_path / "out")
    assert [p.name for p in comparison.cell_folder(cell).glob("*.pth")] == ["iter_2.pth"]
    trained = []
    monkeypatch.setattr(ProgressBar, "after_train_iter", lambda self, runner, *_, **__: trained.append(runner.iter))
    assert main([*command, "--resume"]) == 0
    assert trained == [2, 3]
    result = comparison.result(cell)
    assert result["iterations"] == 4
    # The time before the interruption is not known.
    assert result["timing"]["train_seconds"] is None
    assert not (comparison.cell_folder(cell) / "error.txt").exists()


def test_the_ground_truth_of_a_dataset_is_read_without_a_coco_metric(tmp_path):
    from mmengine.config import Config

    from detection_eval.compare.truth import ground_truth

    annotations, images = write_set(tmp_path / "set", 4, 3)
    dataset = dict(
        type="CocoDataset",
        ann_file=annotations,
        data_prefix=dict(img=images),
        metainfo=dict(classes=("red", "green")),
        pipeline=[],
    )
    made, *_ = ground_truth(Config(dict(test_dataloader=dict(dataset=dataset), test_evaluator=dict(type="VOCMetric"))))
    original = json.loads(Path(annotations).read_text())
    boxes = [[a["image_id"], *a["bbox"], a["category_id"]] for a in original["annotations"]]
    assert [[a["image_id"], *a["bbox"], a["category_id"] + 1] for a in made["annotations"]] == boxes
    assert [c["name"] for c in made["categories"]] == ["red", "green"]


@pytest.mark.slow
def test_a_killed_comparison_resumes_to_the_same_scores(tmp_path, programs):
    command = [*arguments(tmp_path), "--enhancer", "psenet", "--modes", "raw", "retrained"]
    call = command_line(*command)
    process = programs.start(*call)
    comparison = tmp_path / "out"
    first = comparison / "cells" / "raw-seed0" / "result.json"
    deadline = time.monotonic() + 300
    while not first.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.is_file()
    kept = first.stat().st_mtime_ns
    assert Comparison(comparison).unfinished()
    assert programs.run(*call, "--resume").returncode == 0
    assert first.stat().st_mtime_ns == kept
    whole = list(command)
    whole[whole.index(str(tmp_path / "out"))] = str(tmp_path / "whole")
    assert main(whole) == 0
    killed, unbroken = (Comparison(tmp_path / name).table() for name in ("out", "whole"))
    assert [row["scores"] for row in killed] == [row["scores"] for row in unbroken]


_SHARING = """
import sys
from pathlib import Path
from llie_preproc.commands.llie import main
from llie_preproc.work_sharing import join_ranks

code = main([*sys.argv[2:], "--launcher", "pytorch"])
with join_ranks("pytorch") as ranks:
    (Path(sys.argv[1]) / f"code{ranks.rank}").write_text(str(code))
"""


@pytest.mark.slow
def test_two_processes_that_share_cells_get_the_results_of_one(tmp_path, programs, capsys):
    shared = [*arguments(tmp_path), "--enhancer", "none", "psenet", "--modes", "raw", "zero-shot", "joint"]
    alone = [str(tmp_path / "alone") if each == str(tmp_path / "out") else each for each in shared]
    broken = tmp_path / "out" / "cells" / "psenet-retrained-seed0" / "iter_2.pth"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no checkpoint")
    (tmp_path / "sharing.py").write_text(_SHARING)
    done = programs.run_together(2, tmp_path / "sharing.py", tmp_path, *shared, "retrained")
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(tmp_path / f"code{rank}").read_text() for rank in range(2)] == ["1", "1"]
    assert done.stderr.count("1 cells failed:") == done.stderr.count("psenet-retrained-seed0: CheckpointError") == 1
    assert done.stdout.count("| raw |") == 1
    comparison = Comparison(tmp_path / "out")
    assert [cell.name for cell in comparison.unfinished()] == ["psenet-retrained-seed0"]
    assert {line.split("(")[-1] for line in done.stderr.splitlines() if line[:1] == "["} == {"process 0)", "process 1)"}
    # One process may resume what several began; the failed cell is not in this call, so nothing is left to do.
    assert main([*shared, "--resume"]) == 0
    assert "[1/" not in capsys.readouterr().err
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(alone) == 0
    torch.set_num_threads(threads)
    one = Comparison(tmp_path / "alone")
    assert [{**row, "timing": None} for row in comparison.table()] == [{**row, "timing": None} for row in one.table()]
    for cell in one.cells:
        assert comparison.detections_path(cell).read_bytes() == one.detections_path(cell).read_bytes()
        assert comparison.result(cell)["metrics"] == one.result(cell)["metrics"]
        assert comparison.result(cell)["checkpoint"] == one.result(cell)["checkpoint"]
    joint = Path("cells") / "psenet-joint-seed0" / "iter_4.pth"
    weights, shared_weights = (read_checkpoint(each.folder / joint)["state_dict"] for each in (one, comparison))
    assert all(value.equal(shared_weights[name]) for name, value in weights.items())


@pytest.mark.slow
def test_two_processes_that_share_batches_finish_every_mode(tmp_path, programs):
    command = [*arguments(tmp_path), "--enhancer", "psenet", *ALL_MODES, "--launcher", "pytorch", "--share", "batches"]
    done = programs.run_together(2, *command_line(*command))
    assert done.returncode == 0, done.stderr[-2000:]
    rows = Comparison(tmp_path / "out").table()
    assert [row["label"] for row in rows] == ["raw", "psenet, zero-shot", "psenet, retrained", "psenet, joint"]
    assert Comparison(tmp_path / "out").plan["processes"] == 2
    truth = read_truth(Comparison(tmp_path / "out").truth_path)
    # No detection is written twice, so no picture was counted by both processes.
    found = read_detections(Comparison(tmp_path / "out").detections_path(Cell("none", "raw", 0)), truth)
    assert {each["image_id"] for each in found} <= {image["id"] for image in truth["images"]}
    assert len({(d["image_id"], *d["bbox"], d["score"], d["category_id"]) for d in found}) == len(found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_mode_runs_on_a_cuda_device_in_mixed_precision(tmp_path):
    command = [*arguments(tmp_path), "--enhancer", "psenet", *ALL_MODES, "--amp"]
    assert main(command) == 0
    comparison = Comparison(tmp_path / "out")
    assert comparison.plan["device"] == "cuda"
    assert len(comparison.table()) == 4
