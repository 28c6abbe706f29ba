"""Every command refuses a hostile file in each option: it ends with status 1 or 2, names the file and runs no code.

The commands are found in the tables of the packages, their options in the parsers. :data:`LINES` holds the other
arguments that a command needs. A new command without a line there fails a test.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from llie_preproc.checkpoints import WEIGHTS_DIR
from llie_preproc.commands.llie import main
from tests.support import training_runs
from tests.support.hostile_files import HOSTILE, comes_back, marker
from tests.support.hostile_programs import Command, commands

pytest.importorskip("mmdet", reason="needs the extra 'mm'")

from tests.support import tiny_detection

COMMANDS = {str(command): command for command in commands()}
WEIGHTS = str(WEIGHTS_DIR / "psenet_sice.safetensors")
SET = "coco.json pictures"
SMALL_SAM = "--sam small --enhancer none psenet --resume --out out"
# Arguments that a command needs besides the option under test, in a folder that `made` fills.
LINES: Mapping[str, str] = {
    "cache": "cached.py",
    "compare": f"--detector detector.py --enhancer none psenet --train {SET} --test {SET} --resume --out out",
    "annotations darkface": "pictures darkface --out out.json",
    "annotations exdark": "pictures exdark --out out.json",
    "annotations visdrone": "visdrone --out out.json",
    "annotations wider-face": "photos wider.txt --out out.json",
    "annotations yolo": "pictures yolo --classes classes.txt --out out.json",
    "faces": "--dataset folder --images pictures --gammas 1 --enhancer none psenet --resume --out out",
    "fddb": "folds detections.txt",
    "gamma-shift": "pictures --out out --gammas 2",
    "night": "pictures --out out.txt",
    "quality": "pictures pictures",
    "report": "comparison",
    "sam": f"--images pictures --boxes coco.json {SMALL_SAM}",
    "score": "coco.json results.json --resamples 0",
    "convert": f"{WEIGHTS} --out out.safetensors --enhancer PSENet",
    "demo": "--out out",
    "enhance": "pictures --out out/",
    "export": "--out out.onnx --enhancer PSENet",
    "list": "",
    "finetune": f"--detector detector.py --enhancer psenet --train {SET} --val {SET} --out out",
    "split": "finetuned.pth --out out",
    "train": "training.py --out out",
}
# Lines for options that a command reads only with other arguments.
LINES_OF: Mapping[tuple[str, str], str] = {
    ("quality", "config"): "",
    ("quality", "cfg_options"): "--config set.py",
    ("quality", "sequences"): "pictures",
    ("quality", "niqe_model"): "pictures pictures --metrics niqe",
    ("quality", "lpips_trunk"): "pictures pictures --metrics lpips",
    ("quality", "fid_trunk"): "pictures pictures --metrics fid",
    ("quality", "fid_reference"): "pictures pictures --metrics fid --fid-trunk no.pth",
    ("compare", "photographs"): f"--detector detector.py --enhancer none --train {SET} --test {SET} --exposures 0 -1",
    ("score", "classes"): "coco.json results.json --categories coco.json --resamples 0",
    ("sam", "generator"): f"--images pictures --reference pictures {SMALL_SAM}",
    **{
        ("faces", option): f"--dataset {dataset} --images photos --gammas 1 --resume --out out {more}"
        for option, dataset, more in (
            ("annotations", "darkface", ""),
            ("folds", "fddb", ""),
            ("sizes", "fddb", "--folds folds"),
            ("difficulty", "wider", "--annotations wider.txt"),
            ("detector_checkpoint", "folder", "--detector detector.py"),
        )
    },
}
# Keys of a config that name a file, for --cfg-options.
KEYS: Mapping[str, str] = {
    "cache": "test_dataloader.dataset.ann_file",
    "quality": "val_dataloader.dataset.low",
}
# Cases whose message need not name the file: the command ends before it reads the file, or an empty file is valid.
UNNAMED = {
    ("annotations darkface", "annotations", "empty"),
    ("annotations darkface", "annotations", "folder"),
    ("annotations exdark", "annotations", "folder"),
    ("annotations wider-face", "annotations", "empty"),
    *(("faces", "annotations", kind) for kind in ("empty", "folder")),
    *(("sam", "boxes", kind) for kind in ("empty", "folder")),
    # The file of --fid-trunk is read first, and it is missing here.
    *(("quality", "fid_reference", kind) for kind in HOSTILE),
    # The model is read only for a whole comparison; 'quality' reads it in the same way.
    *(("report", "niqe_model", kind) for kind in HOSTILE),
}
# Any lines of text are valid names of classes.
TEXTS = {("annotations yolo", "classes", "names_outside")}
# Commands that take long; they are tried with one suffix of each kind.
LONG = {
    "compare",
    "demo",
    "faces",
    "finetune",
    "sam",
}
CACHED = """
enhance = dict(type="llie_preproc.Enhance", enhancer="Identity", cache_dir="cache")
pipeline = [dict(type="LoadImageFromFile"), enhance, dict(type="PackDetInputs")]
dataset = dict(type="CocoDataset", ann_file="coco.json", data_prefix=dict(img="pictures/"), pipeline=pipeline)
test_dataloader = dict(dataset=dataset)
"""
PAIRS = """
val_dataloader = dict(dataset=dict(type="llie_preproc.PairedFolders", low="pictures", high="pictures"))
"""
# The suffixes that each kind of hostile file is tried with.
SUFFIXES: Mapping[str, Sequence[str]] = {
    "checkpoint_of_a_pickle": (".pth",),
    "checkpoint_that_fetches_attributes": (".pth",),
    "plain_pickle": (".pth", ".mat"),
    "yaml_that_runs_code": (".yaml", ".yml", ".json"),
    "array_of_objects": (".npy", ".npz", ".pth"),
    "archive_of_objects": (".npz", ".pth", ".npy"),
    "array_of_terabytes": (".npy", ".npz"),
    "tensors_of_a_huge_header": (".safetensors",),
    "tensors_of_a_huge_shape": (".safetensors",),
    "deep_json": (".json", ".safetensors"),
    "json_of_other_things": (".json",),
    "json_of_a_long_number": (".json",),
    "picture_of_terapixels": (".png",),
    "playlist": (".mp4", ".mkv"),
    "names_outside": (".txt", ".csv"),
    "no_text": (".txt", ".json", ".pth", ".png", ".mat", ".avi"),
    "empty": (".txt", ".json", ".pth", ".png", ".npz", ".yaml"),
    "fifo": (".txt", ".json", ".pth", ".safetensors", ".png", ".mp4", ".npz", ".mat", ".csv", ".yaml", ""),
    "folder": (".txt", ".json", ".pth", ".safetensors", ".png", ".mp4", ".npz", ".yaml"),
    "link_to_itself": (".txt", ".json", ".pth", ".png", ".mp4", ""),
    "truncated_archive": (".pth", ".npz"),
}
# Suffixes of config files of an enhancer; any other file holds weights.
CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
# Options that name an output. A hostile file in the output's place is not read, but may make writing impossible.
WRITTEN = {"out", "photographs"}
IN_THE_WAY = {"fifo", "link_to_itself", "no_text"}


def made(folder: Path) -> Path:
    """Write the small files that the lines name; returns the folder."""
    pictures = folder / "pictures"
    for inner in ("pictures", "photos", "darkface", "exdark", "yolo", "folds", "comparison", "visdrone/images"):
        (folder / inner).mkdir(parents=True)
    (folder / "visdrone" / "annotations").mkdir()
    for name in "ab":
        cv2.imwrite(str(pictures / f"{name}.png"), np.full((32, 32, 3), 20, np.uint8))
        cv2.imwrite(str(folder / "photos" / f"{name}.jpg"), np.full((32, 32, 3), 20, np.uint8))
        (folder / "darkface" / f"{name}.txt").write_text("0\n")
        (folder / "yolo" / f"{name}.txt").write_text("")
        (folder / "exdark" / f"{name}.txt").write_text("% bbGt version=3\n")
    for fold in range(1, 11):
        text = "a\n1\n5 5 0 16 16 1\n" if fold == 1 else ""
        (folder / "folds" / f"FDDB-fold-{fold:02}-ellipseList.txt").write_text(text)
    (folder / "detections.txt").write_text("a\n1\n1 1 5 5 0.9\n")
    shutil.copy(pictures / "a.png", folder / "visdrone" / "images" / "a.png")
    (folder / "visdrone" / "annotations" / "a.txt").write_text("1,1,5,5,1,4,0,0\n")
    images = [dict(id=i, file_name=f"{name}.png", width=32, height=32) for i, name in enumerate("ab")]
    box = dict(id=1, image_id=0, category_id=1, bbox=[4, 4, 10, 10], area=100, iscrowd=0)
    coco = dict(images=images, annotations=[box], categories=[dict(id=1, name="thing")])
    (folder / "coco.json").write_text(json.dumps(coco))
    (folder / "results.json").write_text("[]")
    (folder / "classes.txt").write_text("thing\n")
    (folder / "wider.txt").write_text("a.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n")
    tiny_detection.write_config(folder / "detector.py")
    (folder / "cached.py").write_text(CACHED)
    (folder / "set.py").write_text(PAIRS)
    training_runs.make_pictures(folder)
    training_runs.write_config(folder, "progressive").rename(folder / "training.py")
    torch.save({"state_dict": {"detector.w": torch.ones(1), "enhancer.w": torch.ones(1)}}, folder / "finetuned.pth")
    return folder


def values(command: Command, action: argparse.Action, path: Path) -> list[str]:
    """The words of the command line that give the file to an option."""
    text = str(path)
    if action.dest == "cfg_options":
        text = f"{KEYS.get(str(command), 'load_from')}={text}"
    elif "@WEIGHTS" in str(action.metavar):
        label = "x=" if "LABEL=" in str(action.metavar) else ""
        text = f"{label}{text}" if path.suffix in CONFIG_SUFFIXES else f"{label}psenet@{text}"
    return [text] * (action.nargs if isinstance(action.nargs, int) else 1)


def line(command: Command, action: argparse.Action, path: Path) -> list[str]:
    """The command line with ``path`` for the option; a positional argument replaces the one in the line."""
    words = LINES_OF.get((str(command), action.dest), LINES[str(command)]).split()
    given = values(command, action, path)
    if not action.option_strings:
        place = command.parser._get_positional_actions().index(action)
        return [*command.words, *words[:place], *given, *words[place + 1 :]]
    flag = action.option_strings[-1]
    if flag in words:
        start = words.index(flag)
        end = next((i for i in range(start + 1, len(words)) if words[i].startswith("--")), len(words))
        del words[start:end]
    return [*command.words, *words, flag, *given]


def tried(command: Command) -> Iterator[tuple[argparse.Action, str, str]]:
    for action in command.options():
        for kind, suffixes in SUFFIXES.items():
            if action.dest not in WRITTEN or kind in IN_THE_WAY:
                for suffix in suffixes[: 1 if str(command) in LONG else None]:
                    yield action, kind, suffix


def run(command: Command, arguments: list[str]) -> int | str:
    """The status of a command, or the error that it raised."""
    try:
        with comes_back(15):
            return main(arguments)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def wrong_with(status: int | str, said: str, path: Path, harmless: bool, unnamed: bool) -> str | None:
    if marker(path).exists():
        return "a command was run"
    if status not in ((0, 1, 2) if harmless else (1, 2)):
        return f"status {status}"[:200]
    if "Traceback" in said:
        return "a traceback"
    # An output may be replaced or impossible to write, so its message need not name the file.
    return None if harmless or unnamed or path.name in said else f"the file is not named: {said[-200:]}"


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made(tmp_path))
    return tmp_path


def test_every_command_is_tried() -> None:
    assert set(COMMANDS) == set(LINES)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_commands_refuse_hostile_files(name: str, inputs: Path, capfd: pytest.CaptureFixture) -> None:
    command = COMMANDS[name]
    wrong = {}
    for number, (action, kind, suffix) in enumerate(tried(command)):
        folder = inputs / f"case_{number}"
        folder.mkdir()
        path = folder / f"hostile_{kind}{suffix}"
        HOSTILE[kind](path)
        status = run(command, line(command, action, path))
        said = "".join(capfd.readouterr())
        harmless = action.dest in WRITTEN or (name, action.dest, kind) in TEXTS
        if found := wrong_with(status, said, path, harmless, (name, action.dest, kind) in UNNAMED):
            wrong[f"{action.option_strings or action.dest} {path.name}"] = found
    assert not wrong, "\n" + "\n".join(f"{key}: {value}" for key, value in wrong.items())
