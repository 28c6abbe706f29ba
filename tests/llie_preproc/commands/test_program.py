"""How programs end: statuses, one line for what is refused, and what signals do at any moment."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llie_preproc.commands import program
from llie_preproc.commands.program import raise_if_interrupted, resumable, run
from llie_preproc.errors import CheckpointError, MissingExtraError
from tests.support.places import ROOT

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """A shell's background job, as which tests may run, ignores Ctrl-C."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("width is 3"), 2, "error: width is 3"),
        (ValueError("first\n  second"), 2, "error: first second"),
        (ValueError(), 2, "error: ValueError"),
        (KeyError("no enhancer 'X'"), 2, "error: no enhancer 'X'"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2, "error: x.png: no such file or folder\n"),
        (FileNotFoundError("no folder x"), 2, "error: no folder x\n"),
        (IsADirectoryError(21, "Is a directory", b"x"), 2, "error: x: is a folder\n"),
        (FileExistsError(17, "File exists", "x"), 2, "error: x: a file has this name\n"),
        (OSError(18, "Invalid cross-device link", "a", None, "b"), 2, "error: a -> b: invalid cross-device link\n"),
        (OSError(28, "No space left on device"), 2, "error: no space left on device\n"),
        (CheckpointError("a.pth is damaged"), 2, "error: a.pth is damaged"),
        (MissingExtraError("mmdet", "compare"), 2, 'pip install "llie-preproc[mm]"'),
        (BrokenPipeError(32, "Broken pipe", "ffmpeg"), 2, "error: ffmpeg: broken pipe"),
        (MemoryError(), 1, "error: the memory does not suffice (MemoryError)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "the memory does not suffice"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("--resume goes on"), 130, "interrupted; --resume goes on"),
    ],
)
def test_what_is_refused_takes_one_line(capsys, error, status, line):
    assert run(raising(error), "llie") == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("llie: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("bug"), AssertionError("bug"), TypeError("bug"), AttributeError("bug")])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error), match="bug"):
        run(raising(error))


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_what_the_work_returns(returned, status):
    assert run(lambda: returned) == status


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_work_in_good_order(capsys, number):
    before = [signal.getsignal(each) for each in SIGNALS]
    cleaned = []

    def work() -> int:
        try:
            interrupt(number)
            time.sleep(10)
        finally:
            cleaned.append(True)
        return 0

    assert run(work, "llie") == 130
    assert cleaned == [True]
    assert capsys.readouterr().err == "llie: interrupted\n"
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_stop_the_clean_up(number):
    cleaned = []

    def work() -> int:
        try:
            interrupt()
            time.sleep(10)
        finally:
            interrupt(number)
            sum(range(1000))
            cleaned.append(True)
        return 0

    assert run(work) == 130
    assert cleaned == [True]


def test_an_interrupt_that_a_finalizer_swallows_comes_again(capsys):
    class Finalized:
        def __del__(self) -> None:
            interrupt()
            sum(range(1000))

    def work() -> int:
        for _ in range(1):
            Finalized()
        time.sleep(10)
        return 0

    start = time.monotonic()
    assert run(work) == 130
    assert time.monotonic() - start < 5
    assert capsys.readouterr().err == "interrupted\n"


def swallow() -> int:
    try:
        interrupt()
        time.sleep(10)
    except BaseException:  # as some libraries do
        return 1
    return 0


def test_an_interrupt_that_a_library_swallows_is_known(capsys):
    assert run(swallow) == 130
    assert capsys.readouterr().err == "interrupted\n"

    def work() -> int:
        swallow()
        raise_if_interrupted()
        pytest.fail("went on")

    assert run(work) == 130


def test_what_a_signal_brings_about_elsewhere_counts_as_interrupted(capsys):
    def work() -> int:
        swallow()
        raise RuntimeError("a worker was killed by signal 2")

    assert run(work) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("end", [lambda: 0, raising(RuntimeError("a worker was killed"))])
def test_how_to_go_on_is_said_whatever_became_of_the_interrupt(capsys, end):
    def work() -> int:
        with resumable("--resume goes on"):
            swallow()
            return end()

    assert run(work) == 130
    assert capsys.readouterr().err == "interrupted; --resume goes on\n"


def test_an_interrupt_of_an_inner_run_ends_the_outer_one(capsys):
    def work() -> int:
        with resumable("the same command goes on"):
            run(swallow)
            run(lambda: interrupt() or time.sleep(10))
        pytest.fail("went on")

    assert run(work) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on\n"


def test_an_inner_run_refuses_for_itself(capsys):
    assert run(lambda: run(raising(ValueError("wrong")))) == 2
    assert capsys.readouterr().err == "error: wrong\n"


def test_an_earlier_interrupt_is_forgotten():
    assert run(swallow) == 130
    assert run(raise_if_interrupted) == 0


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run(lambda: interrupt()) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_leave_the_terminals_interrupt_to_their_parent():
    def work() -> int:
        child = os.fork()
        if child == 0:
            interrupt()
            time.sleep(0.01)
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run(work) == 7


# --- Programs


# Of a user who has not asked for unbuffered output.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def start(*command: str, folder: Path | None = None, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env={**BUFFERED, "PYTHONPATH": os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def module(folder: Path, text: str) -> Path:
    (folder / "made_program.py").write_text(textwrap.dedent(text))
    return folder


LAUNCH = """
    from llie_preproc.commands.program import launch
    if __name__ == "__main__":
        launch("made_program", "made")
"""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_importing_ends_the_program(tmp_path, number):
    folder = module(
        tmp_path,
        LAUNCH
        + f"""
    import os, time
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(10)
    except BaseException:  # as libraries do that try imports
        pass
    def main():
        print("went on")
    """,
    )
    process = start("-m", "made_program", folder=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "made: interrupted\n")


def test_a_module_runs_once_and_under_its_own_name(tmp_path):
    folder = module(tmp_path, LAUNCH + "\n    print(__name__)\n    def main():\n        return 3\n")
    process = start("-m", "made_program", folder=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (3, "made_program\n", "")


def test_an_import_that_fails_takes_one_line(tmp_path):
    folder = module(
        tmp_path, LAUNCH + "\n    from llie_preproc.errors import require\n    require('nonesuch', 'this')\n"
    )
    process = start("-m", "made_program", folder=folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == "made: error: this needs the package 'nonesuch', which is not installed: pip install nonesuch\n"


@pytest.mark.parametrize(
    "work",
    [
        "print('x' * 100)",
        "[print(i, flush=True) for i in range(100000)]",
        "__import__('argparse').ArgumentParser().parse_args(['--help'])",
    ],
)
def test_a_reader_that_goes_away_gets_no_traceback(tmp_path, work):
    folder = module(tmp_path, LAUNCH + f"\n    def main():\n        {work}\n")
    read, write = os.pipe()
    os.close(read)
    process = start("-m", "made_program", folder=folder, stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, "")


def test_a_third_signal_ends_at_once(tmp_path):
    folder = module(
        tmp_path,
        LAUNCH
        + """
    import os, signal, time
    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
            time.sleep(100)
    """,
    )
    process = start("-m", "made_program", folder=folder)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "made: ended at once: temporary files may be left"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("status", [0, 1])
def test_a_signal_after_the_work_changes_no_status(tmp_path, number, status):
    """In ``atexit``, and when the interpreter itself is taken down and runs no handlers any more."""
    folder = module(
        tmp_path,
        LAUNCH
        + f"""
    import atexit, os, sys, time
    class Late:
        def __del__(self, kill=os.kill, pid=os.getpid(), sleep=time.sleep, write=os.write):
            kill(pid, {int(number)})
            sleep(0.1)
            write(1, b"late ")
    def at_exit():
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.1)
        os.write(1, b"exit ")
    atexit.register(at_exit)
    sys.kept_to_the_end = Late()
    def main():
        return {status}
    """,
    )
    process = start("-m", "made_program", folder=folder)
    assert process.communicate(timeout=60) == ("exit late ", "")
    assert process.returncode == status


def test_a_second_signal_after_the_work_hastens_the_end(tmp_path):
    folder = module(
        tmp_path,
        LAUNCH
        + """
    import atexit, os, signal, time
    def at_exit():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(1000))
        time.sleep(100)
    atexit.register(at_exit)
    def main():
        return 1
    """,
    )
    process = start("-m", "made_program", folder=folder)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


# Other names of llie and its commands.
ALIASES = {
    "llie_preproc.__main__": "start()",
    "detection_eval.__main__": "start(renamed={'convert': 'annotations'})",
    "training.train": "start('train')",
}


def test_every_module_that_runs_is_launched():
    """No module of the packages has another way to run as a program."""
    guarded = {}
    for path in sorted(
        p for name in ("llie_preproc", "training", "detection_eval", "benchmarks") for p in (ROOT / name).rglob("*.py")
    ):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
                guarded[path] = [ast.unparse(each) for each in node.body]
    assert len(guarded) > 10
    for path, body in guarded.items():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert body in ([f"launch('{name}')"], [ALIASES.get(name)]), path
    # Before any other import of theirs, for those may take seconds.
    for path in guarded:
        imports = [
            n
            for n in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(n, ast.Import | ast.ImportFrom | ast.If)
        ]
        first = next(i for i, n in enumerate(imports) if isinstance(n, ast.If))
        assert all(getattr(n, "module", None) in _LIGHT or isinstance(n, ast.Import) for n in imports[:first]), path


_LIGHT = {
    "__future__",
    "llie_preproc.commands.llie",
    "llie_preproc.commands.program",
    "commands.program",
    "llie_preproc.errors",
    "collections.abc",
    "functools",
    "importlib",
}


def test_what_handles_signals_comes_without_heavy_imports():
    code = "import sys, training, detection_eval, llie_preproc.commands.llie\n"
    code += "print({'torch', 'numpy', 'mmengine', 'cv2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_statuses_are_those_of_the_shell():
    assert program.INTERRUPTED == 128 + signal.SIGINT
    assert program.NO_READER == 128 + signal.SIGPIPE


def test_threads_that_an_interrupt_leaves_without_their_workers_say_nothing(capsys):
    def fail() -> None:
        raise EOFError("the worker is gone")

    def serve() -> None:
        try:
            fail()
        except EOFError:
            # As Python's own thread that sends open files to worker processes.
            sys.excepthook(*sys.exc_info())

    def work() -> int:
        for target in (fail, serve):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        return 0

    assert run(work) == 0
    assert capsys.readouterr().err.count("EOFError: the worker is gone") == 2

    def interrupted() -> int:
        swallow()
        return work()

    assert run(interrupted) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_installed_command_is_launched():
    """What pip writes as ``llie``: the entry point of pyproject.toml, called."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    name, function = project.partition('\nllie = "')[2].partition('"')[0].split(":")
    process = start("-c", f"import sys; sys.argv[1:] = ['--version']; from {name} import {function}; {function}()")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("llie ")
