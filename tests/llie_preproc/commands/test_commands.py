"""``llie`` finds its commands by entry points, shows the help of each, and names a missing package or file."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from llie_preproc.commands.llie import find_commands
from llie_preproc.commands.program import Parser
from tests.support.command import Run, one_line
from tests.support.places import ROOT
from tests.support.processes import Ended, Programs
from tests.support.programs import hiding

EXTRAS = ("mmengine", "mmcv", "mmdet", "pycocotools", "scipy", "torchmetrics", "segment_anything", "facenet_pytorch",
          "jinja2", "matplotlib", "skimage", "onnx", "onnxruntime", "timm")  # fmt: skip
COMMANDS = ("enhance", "list", "convert", "export", "demo", "train", "finetune", "split", "compare", "report", "score",
            "quality", "faces", "fddb", "sam", "annotations", "night", "gamma-shift", "cache")  # fmt: skip


def python(*arguments: str, path: Sequence[Path] = (), folder: Path | None = None) -> subprocess.CompletedProcess:
    """Run ``python`` in a new process, with the folders ``path`` before this project in its search path."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT])), "COLUMNS": "200"}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=folder)


def hidden(programs: Programs, modules: Sequence[str], code: str) -> Ended:
    """Run ``code`` in a process in which the modules cannot be imported."""
    return programs.run("-c", hiding(modules) + code)


def test_every_command_is_found() -> None:
    found, unread = find_commands()
    assert sorted(found) == sorted(COMMANDS)
    assert not unread


def test_the_help_of_a_command_is_the_first_line_of_its_module() -> None:
    for module, text in find_commands()[0].values():
        source = Path(find_spec(module).origin).read_text(encoding="utf-8")
        first = ast.get_docstring(ast.parse(source)).splitlines()[0]
        assert first.removesuffix(".") in (text, text[0].upper() + text[1:]), module


def test_the_help_of_llie_lists_every_command_and_imports_none() -> None:
    code = """
import contextlib, llie_preproc.commands.llie as llie
with contextlib.suppress(SystemExit):
    llie.main(["--help"])
print({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "cv2", "mmengine", "mmdet", "tqdm"})
"""
    done = python("-c", f"import sys\n{code}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
    assert re.findall(r"^    ([a-z-]+)", done.stdout, re.MULTILINE) == list(find_commands()[0])


def test_every_help_is_shown_on_a_core_install(bare_programs: Programs) -> None:
    code = f"""
import contextlib, io
from llie_preproc.commands.llie import main
for name in {COMMANDS}:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main([name, "--help"])
    print(said.getvalue().splitlines()[0].split(" [")[0])
"""
    done = hidden(bare_programs, EXTRAS, code)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"usage: llie {name}" for name in COMMANDS]


@pytest.mark.examples(3)
@pytest.mark.parametrize(
    ("absent", "call", "extras"),
    [
        ("pycocotools", "compare --detector a.py --enhancer none", "compare"),
        ("matplotlib", "faces --dataset folder --images . --out out", "compare,face"),
        ("jinja2", "report folder", "compare"),
        ("segment_anything", "sam --images . --boxes boxes --out out", "sam,compare"),
        ("mmengine", "train a.py --cfg-options a=1", "train"),
        ("mmengine", "split a.pth --out out", "mm"),
    ],
)
def test_a_missing_package_is_named_with_all_extras(
    bare_programs: Programs, absent: str, call: str, extras: str
) -> None:
    code = f"from llie_preproc.commands.llie import main\nsys.exit(main({call.split()}))"
    done = hidden(bare_programs, [absent], code)
    assert (done.returncode, done.stderr) == (
        2,
        f"llie: error: llie {call.split()[0]} needs the package '{absent}', which is not installed: "
        f'pip install "llie-preproc[{extras}]"\n',
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("score absent.json detections.json", "absent.json: no such file or folder"),
        ("fddb absent detections", "absent/FDDB-fold-01-ellipseList.txt: no such file or folder"),
        ("cache absent.py", "no config file absent.py"),
        ("cache set.py", "absent.json: no such file or folder (train_dataloader.dataset.ann_file of the config)"),
        ("split absent.pth --out out", "no checkpoint at absent.pth"),
        (
            "enhance . --out out --enhancer psenet@w",
            "no checkpoint at w; shipped weights of PSENet: psenet_sice, psenet_sice_smooth",
        ),
    ],
)
def test_a_file_that_is_missing_is_named(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, line: str
) -> None:
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    pytest.importorskip("pycocotools", reason="needs the extra 'mm'")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("picture.png")
    enhance = "dict(type='LoadImageFromFile'), dict(type='llie_preproc.Enhance', enhancer='psenet', cache_dir='cache')"
    dataset = f"dict(type='mmdet.CocoDataset', ann_file='absent.json', pipeline=[{enhance}])"
    Path("set.py").write_text(f"train_dataloader = dict(dataset={dataset})\n")
    result = llie(*arguments.split())
    assert (result.code, result.err) == (2, f"llie: error: {line}\n")


# Commands of other packages.


def install(folder: Path, name: str, table: str, **modules: str) -> None:
    """Install a distribution in ``folder``: a package ``name`` with a table of commands, and modules in it."""
    package, metadata = folder / name, folder / f"{name}-1.dist-info"
    for each in (package, metadata):
        each.mkdir(parents=True)
    (package / "__init__.py").write_text(f"COMMANDS = {table}\n")
    for module, text in modules.items():
        (package / f"{module}.py").write_text(text)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[llie_preproc.commands]\n{name} = {name}:COMMANDS\n")


GREET = '''"""Greet.

A second paragraph.
"""

def add_arguments(parser):
    parser.add_argument("--name")

def run(args):
    return 7 if args.name == "you" else 8
'''


def test_a_package_adds_commands(llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "{'greet': ('greeter.greet', 'greet, 100 % politely'), 'bow': ('greeter.bow', 'bow')}"
    install(tmp_path, "greeter", table, greet=GREET, bow="raise RuntimeError('imported without being asked for')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert llie("greet", "--name", "you").code == 7
    assert llie("greet").code == 8
    assert "A second paragraph." in llie("greet", "--help").out
    assert "greet, 100 % politely" in llie("--help").out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["lst"], ["invalid choice: 'lst'", "is 'list' meant?"]),
        (["Compare"], ["is 'compare' or "]),
        (["annotations", "visdrome"], ["'visdrome'", "is 'visdrone' meant?", "llie annotations --help"]),
        (
            ["score", "a.json", "b.json", "--metrics", "visdron"],
            ["--metrics", "is 'visdrone' or 'visdrone-coco' meant?"],
        ),
        (["quality", "low", "high", "--metrics", "psnr", "sim"], ["is 'ssim' ", "meant?"]),
        (["compare", "--enhancers", "clahe"], ["arguments: --enhancers; is '--enhancer' ", "llie compare --help"]),
        (["compare", "--exposurs=0"], ["--exposurs=0", "; is '--exposures' "]),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(llie: Run, words: list[str], parts: list[str]) -> None:
    one_line(llie(*words), *parts)


@pytest.mark.parametrize("given", ["0,-3", "-3,-5", "-3EV", "1,2"])
@pytest.mark.parametrize("flag", ["--exposures", "--gammas"])
def test_numbers_that_no_spaces_separate_are_refused(llie: Run, flag: str, given: str) -> None:
    words = ["compare", "--detector", "a.py", "--enhancer", "none", flag, given]
    one_line(llie(*words), "spaces between", f"got '{given}'")


@pytest.mark.parametrize("given", [["-3"], ["-.5", "0"], ["--", "-3,5"]])
def test_words_like_negative_numbers_are_no_flags(given: list[str]) -> None:
    parser = Parser()
    parser.add_argument("words", nargs="*")
    assert parser.parse_args(given).words == [word for word in given if word != "--"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--metrics", "coco", "--metrics", "visdrone"], "--metrics is given twice"),
        (["--metrics", "coco", "visdrone", "coco"], "--metrics has 'coco' twice"),
    ],
)
def test_metrics_that_are_given_twice_are_refused(llie: Run, words: list[str], part: str) -> None:
    one_line(llie("score", "a.json", "b.json", *words), part)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("{'list': ('sayer.say', 'say')}", "another package has a command 'list' too"),
        ("1", "expected a dict, got int"),
        ("missing", "name 'missing' is not defined"),
    ],
)
def test_an_unusable_table_of_commands_is_reported(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, reason: str
) -> None:
    name = f"sayer{abs(hash(table))}"
    install(tmp_path, name, table)
    monkeypatch.syspath_prepend(tmp_path)
    assert llie("list", "--backends").code == 0
    one_line(llie("say"), "there is no command 'say'", name, reason)
    assert name in llie("--help").out


@pytest.mark.examples(2)
@pytest.mark.parametrize("inside", ["", "/commands.py", "/commands/util.py", "/commands/__init__.py"])
def test_a_folder_that_hides_a_package_is_reported(bare_programs: Programs, tmp_path: Path, inside: str) -> None:
    """A user's folder ``training`` that hides the project's is reported by its path, and its code does not run."""
    hiding = tmp_path / "training"
    hiding.mkdir()
    (hiding / "__init__.py").write_text("raise SystemExit('ran')\n")
    if inside:
        (tmp_path / f"training{inside}").parent.mkdir(exist_ok=True)
        (tmp_path / f"training{inside}").write_text("COMMANDS = {'train': ('training.commands.train', 'mine')}\n")
    for path, folder in (((tmp_path,), hiding), ((), tmp_path)):
        searched = {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
        done = bare_programs.run("-m", "llie_preproc", "train", "config.py", environment=searched, folder=folder)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert done.stderr.startswith("llie: error: there is no command 'train'; ")
        assert f"training.commands of llie-preproc is hidden by {hiding}, " in done.stderr
    assert bare_programs.run("-m", "llie_preproc", "list", "--backends", folder=tmp_path).returncode == 0


# Other names of the program.


def test_other_modules_start_llie(programs: Programs) -> None:
    for words, command in ((("detection_eval",), "llie"), (("training.train",), "llie train")):
        done = programs.run("-m", *words, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(f"usage: {command} [-h]")


def test_the_old_name_of_a_command_points_to_the_new_one(programs: Programs) -> None:
    done = programs.run("-m", "detection_eval", "convert", "visdrone", "root", "--out", "a.json")
    line = "llie: error: the command 'convert' is 'annotations' now (see 'llie annotations --help')\n"
    assert (done.returncode, done.stderr) == (2, line)
