"""``llie compare --exposures`` and ``--gammas``: a cell at a light equals that of a set made by hand at this light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("pycocotools", reason="needs the extra 'mm'")

from detection_eval.compare.comparison_store import Cell, Comparison
from llie_preproc import exposures
from llie_preproc.commands.llie import main
from llie_preproc.exposures import Exposure
from llie_preproc.ops.sensor import Sensor
from tests.support.tiny_detection import CLASSES, arguments, write_config, write_set

SENSOR = ["--full-well", "400", "--read-noise", "2", "--noise-seed", "7"]


def detector(folder: Path) -> list[str]:
    """Arguments for a detector of random weights, whose detections depend on every pixel."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    from llie_preproc.config_files import read_config_file

    config = write_config(folder / "tiny.py")
    cfg = read_config_file(str(config))
    cfg.model.roi_head.bbox_head.num_classes = len(CLASSES)
    register_all_modules(init_default_scope=True)
    torch.manual_seed(0)
    weights = MODELS.build(cfg.model).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=CLASSES))), folder / "detector.pth")
    return ["compare", "--detector", str(config), "--detector-checkpoint", str(folder / "detector.pth")]


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[..., Comparison]]:
    """A folder with a test set of bright pictures, and a function that runs ``compare`` with a given detector."""
    folder = tmp_path_factory.mktemp("light")
    base = detector(folder)
    write_set(folder / "test", 5, 1)
    for path in (folder / "test").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)) * 2 + 20)

    def run(out: str, *options: str, images: Path = folder / "test", truth: Path = folder / "test.json") -> Comparison:
        sets = ["--test", str(truth), str(images), "--resamples", "50", "--out", str(folder / out)]
        assert main([*base, *sets, *options]) == 0
        return Comparison(folder / out)

    return folder, run


@pytest.fixture(scope="module")
def finished(tested: Any) -> Comparison:
    """A comparison at three exposures."""
    _, run = tested
    return run("lit", "--enhancer", "none", "clahe", "--exposures", "-4", "0", "1", *SENSOR)


def found(comparison: Comparison, *cell: Any) -> bytes:
    return comparison.detections_path(Cell(*cell)).read_bytes()


def test_rows_go_from_bright_to_dark(finished: Comparison) -> None:
    labels = ["raw, +1 EV", "clahe, zero-shot, +1 EV", "raw, 0 EV", "clahe, zero-shot, 0 EV", "raw, -4 EV"]
    assert [row["label"] for row in finished.table()] == [*labels, "clahe, zero-shot, -4 EV"]
    assert finished.plan["light"] == dict(kind="exposures", full_well=400.0, read_noise=2.0, noise_seed=7)


def test_exposure_0_finds_what_a_comparison_without_an_axis_finds(finished: Comparison, tested: Any) -> None:
    _, run = tested
    plain = run("plain", "--enhancer", "none", "clahe")
    for cell in plain.cells:
        assert found(plain, *cell.entry) == found(finished, *cell.entry, 0.0)
        assert found(finished, *cell.entry, 0.0) != found(finished, *cell.entry, -4.0)


@pytest.mark.parametrize("stops", [-4.0, 1.0])
def test_an_exposure_finds_what_a_set_of_photographs_gives(finished: Comparison, tested: Any, stops: float) -> None:
    folder, run = tested
    taken = folder / f"taken{stops:g}"
    taken.mkdir()
    exposure = Exposure(stops, Sensor(400.0, 2.0), 7)
    for path in (folder / "test").iterdir():
        picture = exposure.photograph(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        cv2.imwrite(str(taken / path.name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    by_hand = run(f"by_hand{stops:g}", "--enhancer", "none", "clahe", images=taken)
    for cell in by_hand.cells:
        assert found(by_hand, *cell.entry) == found(finished, *cell.entry, stops)


def test_a_gamma_finds_what_the_set_of_gamma_shift_gives(tested: Any) -> None:
    folder, run = tested
    given = ["--annotations", str(folder / "test.json"), "--out", str(folder / "shifted")]
    settings = ["--gammas", "0.4", "--convention", "inverse"]
    assert main(["gamma-shift", str(folder / "test"), *given, *settings]) == 0
    images, truth = folder / "shifted" / "gamma_0.4", folder / "shifted" / "gamma_0.4.json"
    by_hand = run("by_hand", "--enhancer", "none", "clahe", images=images, truth=truth)
    shifted = run("gammas", "--enhancer", "none", "clahe", *settings)
    assert [row["label"] for row in shifted.table()] == ["raw, gamma 0.4", "clahe, zero-shot, gamma 0.4"]
    for cell in by_hand.cells:
        assert found(by_hand, *cell.entry) == found(shifted, *cell.entry, 0.4)
    assert not (shifted.folder / "photographs").exists()


@pytest.mark.slow
def test_photographs_are_taken_once(tested: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another enhancer, and another comparison that shares the folder, find them; another seed does not."""
    folder, run = tested
    options = ["--exposures", "-4", *SENSOR, "--photographs", str(folder / "shared")]
    first = run("first", "--enhancer", "none", *options)
    made = {path: path.stat().st_mtime_ns for path in (folder / "shared").rglob("*.png")}
    assert len(made) == 5
    assert not (first.folder / "photographs").exists()

    def broken(*args: Any) -> None:
        raise RuntimeError("a photograph is taken again")

    with monkeypatch.context() as patch:
        patch.setattr(exposures, "photograph", broken)
        more = run("first", "--enhancer", "none", "clahe", *options, "--resume")
        again = run("second", "--enhancer", "none", "clahe", *options)
    for cell in again.cells:
        assert found(again, *cell.entry) == found(more, *cell.entry)
    assert {path: path.stat().st_mtime_ns for path in (folder / "shared").rglob("*.png")} == made
    other = run("third", "--enhancer", "none", *options, "--noise-seed", "8")
    assert found(other, "none", "raw", 0, -4.0) != found(again, "none", "raw", 0, -4.0)


def test_lights_that_differ_in_the_seventh_digit_have_cells_of_their_own(tested: Any) -> None:
    """A resumed comparison must not take the finished cell of a light nearby for its own."""
    _, run = tested
    near, other = -3.1234567, -3.1234574
    assert f"{near:g}" == f"{other:g}"
    run("near", "--enhancer", "none", "--exposures", str(near), *SENSOR)
    both = run("near", "--enhancer", "none", "--exposures", str(other), *SENSOR, "--resume")
    assert [row["label"] for row in both.table()] == [f"raw, {near} EV", f"raw, {other} EV"]
    assert found(both, "none", "raw", 0, near) != found(both, "none", "raw", 0, other)


def test_another_camera_or_axis_in_the_same_folder_is_refused(
    finished: Comparison, tested: Any, capsys: pytest.CaptureFixture
) -> None:
    folder, _ = tested
    base = [
        *["compare", "--detector", str(folder / "tiny.py"), "--detector-checkpoint", str(folder / "detector.pth")],
        *["--test", str(folder / "test.json"), str(folder / "test"), "--resamples", "50", "--enhancer", "none"],
        *["--out", str(finished.folder), "--resume"],
    ]
    for options, says in (
        (["--exposures", "-4", *SENSOR[:4]], "light noise_seed (7, now 0)"),
        (["--gammas", "2"], "light kind ('exposures', now 'gammas')"),
        ([], "with --exposures, and this one is of the pictures as they are"),
    ):
        assert main([*base, *options]) == 2
        assert says in (error := capsys.readouterr().err)
        assert error.count("\n") == 1


@pytest.mark.slow(20)
def test_detectors_are_trained_once_and_tested_at_each_light(tmp_path: Path) -> None:
    command = [*arguments(tmp_path), "--enhancer", "psenet", "--modes", "raw", "zero-shot", "retrained", "joint"]
    assert main([*command, "--exposures", "-3", "0"]) == 0
    lit = Comparison(tmp_path / "out")
    assert not lit.unfinished()
    for cell in lit.cells:
        result = lit.result(cell)
        assert result is not None
        trained = cell.light == 0 and cell.mode != "zero-shot"
        assert (result["timing"]["train_seconds"] is not None) == trained
        assert result["checkpoint"] == f"cells/{lit.trainer(cell).name}/iter_4.pth"
        assert lit.trainer(cell).light == 0
    command[command.index("--out") + 1] = str(tmp_path / "plain")
    assert main(command) == 0
    plain = Comparison(tmp_path / "plain")
    for cell in plain.cells:
        assert found(plain, *cell.entry) == found(lit, *cell.entry, 0.0) != found(lit, *cell.entry, -3.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--exposures", "0", "nan"], "--exposures: exposure must be a number"),
        (["--exposures", "0", "-21"], "--exposures: exposure must be a number of at least -20"),
        (["--exposures", "0", "-2", "-2.0"], "--exposures names one twice: 0 -2 -2"),
        (["--exposures", "0", "-0.0"], "--exposures names one twice"),
        (["--exposures", "0", "--full-well", "0"], "error: --full-well: full_well must be a number above 0"),
        (["--gammas", "1", "0"], "--gammas: gamma must be positive and finite, got 0"),
        (["--full-well", "100"], "--full-well needs --exposures"),
        (["--photographs", "kept", "--gammas", "1"], "--photographs needs --exposures"),
        (["--exposures", "0", "--photographs", __file__], "test_light_axis.py: expected a folder"),
        (["--convention", "power", "--exposures", "0"], "--convention needs --gammas"),
        (["--exposures", "-2", "-4"], "--exposures must have 0, the pictures as they are, on which the detectors are"),
        (["--gammas", "2"], "--gammas must have 1, the pictures as they are"),
    ],
)
def test_wrong_lights_are_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], says: str
) -> None:
    assert main([*arguments(tmp_path), "--enhancer", "none", *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_two_axes_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main([*arguments(tmp_path), "--enhancer", "none", "--exposures", "0", "--gammas", "1"])
    assert "not allowed with argument --exposures" in capsys.readouterr().err


def test_a_pipeline_without_a_loader_is_refused_in_words() -> None:
    from llie_preproc.detection.enhanced_config import insert_after_loading

    part = dict(dataset=dict(pipeline=[dict(type="Resize")]))
    with pytest.raises(ValueError, match="test_dataloader: no pipeline has a transform that loads a picture"):
        insert_after_loading(part, dict(type="llie_preproc.GammaShift", gamma=2.0), "test_dataloader")


def test_a_cache_may_follow_a_fixed_light_but_no_drawn_one(tmp_path: Path) -> None:
    """A cache behind a fixed gamma finds its pictures again; behind a drawn one it would not."""
    from mmengine.config import Config

    from detection_eval.shared.fill_cache import fill_cache

    annotations, images = write_set(tmp_path / "set", 2, 0)
    enhance = dict(type="llie_preproc.Enhance", enhancer="Identity", cache_dir=str(tmp_path / "cache"))

    def filled(light: dict) -> int:
        pipeline = [dict(type="LoadImageFromFile"), light, enhance, dict(type="mmdet.PackDetInputs")]
        dataset = dict(type="CocoDataset", ann_file=annotations, data_prefix=dict(img=images), pipeline=pipeline)
        return fill_cache(Config(dict(test_dataloader=dict(dataset=dataset))), progress=False).made

    assert filled(dict(type="llie_preproc.GammaShift", gamma=2.0)) == 2
    assert filled(dict(type="llie_preproc.Photograph", exposure=-2.0)) == 2
    assert filled(dict(type="llie_preproc.Photograph", exposure=-2.0)) == 0
    with pytest.raises(ValueError, match="GammaShift stands before an Enhance with cache_dir"):
        filled(dict(type="llie_preproc.GammaShift", gamma=[1.0, 2.0]))
    assert np.load(next((tmp_path / "cache").rglob("*.npy")), allow_pickle=False).dtype == np.uint8
