"""Every program of the project, interrupted at any moment: status 130, one line, and nothing half-written.

The programs are found by walking the command tables, so that a new one is here by being there.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux which signals a process handles")


def launched() -> list[str]:
    """The modules that run as programs."""
    packages = ("llie_preproc", "training", "detection_eval", "benchmarks")
    paths = sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path, text in texts.items()
        if re.search(r'^if __name__ == "__main__":', text, re.MULTILINE)
    ]


def table(path: str, name: str) -> list[str]:
    """The keys of a table of commands, without importing what it names."""
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return list(ast.literal_eval(node.value))
    raise LookupError(f"{path} has no {name}")


def commands_of_llie() -> list[str]:
    text = (ROOT / "llie_preproc" / "cli.py").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    plugged = project.partition('[project.entry-points."llie_preproc.commands"]')[2].partition("[")[0]
    return [*re.findall(r'commands\.add_parser\(\s*"(\w+)"', text), *re.findall(r"^(\w+) =", plugged, re.MULTILINE)]


PROGRAMS = [
    *(("llie_preproc.cli", command) for command in commands_of_llie()),
    *(("detection_eval", command) for command in table("detection_eval/__main__.py", "_COMMANDS")),
    *((module,) for module in launched() if module not in ("llie_preproc.cli", "detection_eval")),
]


def test_the_tables_are_walked():
    assert ("llie_preproc.cli", "enhance") in PROGRAMS
    assert ("llie_preproc.cli", "demo") in PROGRAMS
    assert ("detection_eval", "compare") in PROGRAMS
    assert {("training.train",), ("training.finetune",), ("training.split",)} <= set(PROGRAMS)
    assert len([program for program in PROGRAMS if program[0].startswith("benchmarks.")]) > 10


def start(*program: str, folder: Path | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        # A shell's background job, as which tests may run, ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_handler(process: subprocess.Popen) -> None:
    """Wait until a process handles SIGTERM: before that it is Python that starts, not the program."""
    deadline = time.monotonic() + 60
    status = Path(f"/proc/{process.pid}/status")
    while time.monotonic() < deadline and process.poll() is None:
        caught = next(int(line.split()[1], 16) for line in status.read_text().splitlines() if line[:6] == "SigCgt")
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)
    pytest.fail("the program does not handle SIGTERM")


def ends_in_good_order(process: subprocess.Popen, number: signal.Signals) -> str:
    """Send the signal; returns the line that the program ends with."""
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err[-2000:]
    assert "Traceback" not in err, err[-2000:]
    assert "Error" not in err, err[-2000:]
    return err.splitlines()[-1]


@linux
@pytest.mark.parametrize("program", PROGRAMS, ids="-".join)
def test_an_interrupt_while_a_program_starts_ends_it(program):
    process = start(*program, "--help")
    wait_for_handler(process)
    number = signal.SIGTERM if len("".join(program)) % 2 else signal.SIGINT
    line = ends_in_good_order(process, number)
    assert line == ("llie: interrupted" if program[0] == "llie_preproc.cli" else "interrupted")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(
    "program", [("llie_preproc.cli", "demo"), ("detection_eval", "compare"), ("training.finetune",)]
)
def test_an_interrupt_while_a_program_imports_ends_it(program, seconds, tmp_path):
    """However far it has come: what is imported may catch anything."""
    process = start(*program, *(["--out", str(tmp_path)] if "demo" in program else ["none.py", "--enhancer", "psenet"]))
    wait_for_handler(process)
    time.sleep(seconds)
    if process.poll() is not None:
        pytest.skip("it has ended before")
    ends_in_good_order(process, signal.SIGINT)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name.startswith(".")]
