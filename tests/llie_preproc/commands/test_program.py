"""``run`` returns the status of a command's work, reports an error in one line, and cleans up after a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

from llie_preproc.commands import program
from llie_preproc.commands.program import raise_if_interrupted, resumable, run
from llie_preproc.errors import CheckpointError, MissingExtraError
from tests.support.signals import SIGNALS

pytestmark = pytest.mark.usefixtures("ctrl_c_is_heard")


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
        (MemoryError(), 1, "error: there is not enough memory (MemoryError)"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "there is not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("--resume goes on"), 130, "interrupted; --resume goes on"),
    ],
)
def test_an_expected_error_is_reported_in_one_line(capsys, error, status, line):
    assert run(raising(error), "llie") == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("llie: ")
    assert line in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("error", [RuntimeError("bug"), AssertionError("bug"), TypeError("bug"), AttributeError("bug")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error), match="bug"):
        run(raising(error))


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_the_status_is_what_the_work_returns(returned, status):
    assert run(lambda: returned) == status


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_work_after_its_clean_up(capsys, number):
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


def test_an_interrupt_that_a_finalizer_swallows_is_raised_again(capsys):
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
    except BaseException:  # some libraries catch everything
        return 1
    return 0


def test_an_interrupt_that_a_library_swallows_ends_the_work(capsys):
    assert run(swallow) == 130
    assert capsys.readouterr().err == "interrupted\n"

    def work() -> int:
        swallow()
        raise_if_interrupted()
        pytest.fail("went on")

    assert run(work) == 130


def test_an_error_after_an_interrupt_counts_as_interrupted(capsys):
    def work() -> int:
        swallow()
        raise RuntimeError("a worker was killed by signal 2")

    assert run(work) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("end", [lambda: 0, raising(RuntimeError("a worker was killed"))])
def test_an_interrupt_always_says_how_to_resume(capsys, end):
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


def test_an_inner_run_reports_its_own_errors(capsys):
    assert run(lambda: run(raising(ValueError("wrong")))) == 2
    assert capsys.readouterr().err == "error: wrong\n"


def test_an_earlier_interrupt_is_forgotten():
    assert run(swallow) == 130
    assert run(raise_if_interrupted) == 0


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run(lambda: interrupt()) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no os.fork")
def test_forked_children_leave_the_terminals_interrupt_to_their_parent():
    def work() -> int:
        child = os.fork()
        if child == 0:
            interrupt()
            time.sleep(0.01)
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run(work) == 7


def test_statuses_are_those_of_the_shell():
    assert program.INTERRUPTED == 128 + signal.SIGINT
    assert program.NO_READER == 128 + signal.SIGPIPE


def test_threads_that_fail_after_an_interrupt_print_nothing(capsys):
    def fail() -> None:
        raise EOFError("the worker is gone")

    def serve() -> None:
        try:
            fail()
        except EOFError:
            # Python's own thread that sends open files to worker processes reports an error in this way.
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
