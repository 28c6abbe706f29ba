"""Every program of the project that is interrupted ends with status 130 and one line, without a traceback.

The programs are found through the tables of commands and in the source, so that a new one is tested too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llie_preproc.commands.llie import find_commands
from tests.support.places import ROOT

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc, which lists handled signals")


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


PROGRAMS = [
    *(("llie_preproc", command) for command in find_commands()[0]),
    *((module,) for module in launched() if module != "llie_preproc"),
]


def test_the_programs_are_found():
    assert {("llie_preproc", command) for command in ("enhance", "demo", "compare", "finetune")} <= set(PROGRAMS)
    assert {("detection_eval",), ("training.train",)} <= set(PROGRAMS)
    assert len([program for program in PROGRAMS if program[0].startswith("benchmarks.")]) > 10


def start(*program: str, folder: Path | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        # Tests may run as a shell's background job, which ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_handler(process: subprocess.Popen) -> None:
    """Wait until a process handles SIGTERM: an earlier signal would arrive while Python itself starts."""
    deadline = time.monotonic() + 60
    status = Path(f"/proc/{process.pid}/status")
    while time.monotonic() < deadline and process.poll() is None:
        caught = next(int(line.split()[1], 16) for line in status.read_text().splitlines() if line[:6] == "SigCgt")
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)
    pytest.fail("the program does not handle SIGTERM")


def interrupt(process: subprocess.Popen, number: signal.Signals) -> str:
    """Send the signal, and assert status 130 without a traceback; returns the last line that the program prints."""
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err[-2000:]
    assert "Traceback" not in err, err[-2000:]
    assert "Error" not in err, err[-2000:]
    return err.splitlines()[-1]


@linux
@pytest.mark.examples(4)
@pytest.mark.parametrize("program", PROGRAMS, ids="-".join)
def test_an_interrupt_while_a_program_starts_ends_it(program):
    process = start(*program, "--help")
    wait_for_handler(process)
    number = signal.SIGTERM if len("".join(program)) % 2 else signal.SIGINT
    line = interrupt(process, number)
    assert line == ("interrupted" if program[0].startswith("benchmarks.") else "llie: interrupted")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0])
@pytest.mark.parametrize(
    "program", [("llie_preproc", "demo"), ("detection_eval", "compare"), ("llie_preproc", "finetune")]
)
def test_an_interrupt_while_a_program_imports_ends_it(program, seconds, tmp_path):
    """The program ends whatever it is importing, even if an imported module catches any exception."""
    process = start(*program, *(["--out", str(tmp_path)] if "demo" in program else ["none.py", "--enhancer", "psenet"]))
    wait_for_handler(process)
    time.sleep(seconds)
    if process.poll() is not None:
        pytest.skip("the program ended before the signal")
    interrupt(process, signal.SIGINT)
