"""The start and end of every program: signals and the errors of a wrong call are handled here alone.

A program's ``main`` hands its work to :func:`run`, and its module begins with ::

    if __name__ == "__main__":
        launch("package.module")

Then a signal during the module's own imports, or an import that fails, also gives a message of one line.

Exit status: 0, all is done; 1, some of the work failed; 2, the call is wrong or nothing could be started; 130, a signal
interrupted the program; 141, the reader of the standard output has gone (``| head``).

This module imports only what loads fast, because no interrupt is handled before it is loaded.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import itertools
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

from ..checks import printable
from ..errors import DivergedError, nearest, one_line
from ..out_of_memory import is_out_of_memory

FAILED, USAGE, INTERRUPTED, NO_READER = 1, 2, 130, 141

REFUSED = (OSError, ValueError, KeyError, ImportError)
"""Exceptions of a wrong call, file or environment. They give a message of one line and status 2; others are bugs."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# An interrupt that a callback could not pass on is raised again after this many seconds.
_AGAIN = 0.05
# A word that begins like a negative number, and one that argparse takes for such a number and not for a flag.
_LIKE_NEGATIVE, _NEGATIVE = re.compile(r"-\.?\d"), re.compile(r"-\d+|-\d*\.\d+")


class Parser(argparse.ArgumentParser):
    """Argument parser that says in one line what is wrong with a call."""

    prefix = ""

    def error(self, message: str) -> NoReturn:
        """Print the message, and end with status 2."""
        self.exit(USAGE, f"{self.prefix}error: {printable(message)} (see '{self.prog} --help')\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words; a misspelt flag of a command is reported before what is missing without it."""
        if self._subparsers is None:
            self._refuse_unknown_flags(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def _refuse_unknown_flags(self, words: Sequence[str]) -> None:
        known = [flag for action in self._actions for flag in action.option_strings]
        for word in itertools.takewhile("--".__ne__, words):
            flag = word.partition("=")[0]
            if word.startswith("--") and not any(each.startswith(flag) for each in known):
                meant = nearest(flag, known)
                self.error(f"unrecognized arguments: {word}{'; ' if meant else ''}{meant}")
            if _LIKE_NEGATIVE.match(word) and not _NEGATIVE.fullmatch(word):
                self.error(f"expected a number such as -3 or -0.5, and spaces between several, got {word!r}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is not among the argument's choices, and name the nearest choice."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if meant := nearest(str(value), map(str, action.choices or ())):
                raise argparse.ArgumentError(action, f"{error.message}; {meant}") from None
            raise


def launch(module: str, name: str = "") -> NoReturn:
    """Import a module, run its ``main``, and end the process with the status that it returns.

    Args:
        module: Name of the module, which may be the one that runs as ``__main__``.
        name: Name that messages begin with; empty for none.
    """
    _interrupts.own_process = True
    # This must run last, so it is registered first: atexit runs functions in reverse order.
    atexit.register(_interrupts.ignore)

    def work() -> int | None:
        main = import_module(module).main
        _interrupts.harmless -= 1
        try:
            return main()
        finally:
            _interrupts.harmless += 1

    status: Any = FAILED
    # Only the work itself is interrupted by an exception: before and after it, nothing might catch the exception.
    _interrupts.harmless += 1
    try:
        status = run(work, name)
    except SystemExit as end:
        status = end.code
        raise
    finally:
        _interrupts.work_ended(status)
    sys.exit(status)


def run(work: Callable[[], int | None], name: str = "") -> int:
    """Do a program's work, and return its exit status.

    Meanwhile, SIGINT and SIGTERM raise ``KeyboardInterrupt``, so that temporary files are removed. A run inside another
    one leaves interrupts to the outer one.

    Args:
        work: Function that does the work and returns the status; None stands for 0.
        name: Name that messages begin with; empty for none.

    Examples:
        >>> run(lambda: None), run(lambda: 1)
        (0, 1)
    """
    prefix = f"{name}: " if name else ""
    with _interrupts.taken(prefix) as outermost:
        try:
            return _undisturbed(work, outermost)
        except KeyboardInterrupt as interrupt:
            if not outermost:
                raise
            say("; ".join([f"{prefix}interrupted", *map(str, interrupt.args)]))
            return INTERRUPTED
        except BrokenPipeError as error:
            if error.filename is not None:
                return _refuse(prefix, error)
            _drop_output()
            return NO_READER
        except DivergedError as error:
            say(f"{prefix}error: {one_line(error)}")
            return FAILED
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            say(f"{prefix}error: there is not enough memory ({one_line(error) or type(error).__name__})")
            return FAILED
        except REFUSED as error:
            return _refuse(prefix, error)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Mark a block in which nothing is written yet, so that a signal ends the process at once.

    During imports, an exception could be lost, because libraries try imports and go on if one fails.
    """
    _interrupts.harmless += 1
    try:
        yield
    finally:
        _interrupts.harmless -= 1


@contextlib.contextmanager
def resumable(how: str) -> Iterator[None]:
    """Report an interrupt of the block together with advice on how to continue.

    Args:
        how: Advice, such as ``'--resume goes on'``.
    """
    try:
        with _interrupt_counts():
            yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(*(interrupt.args or [how])) from None


def raise_if_interrupted() -> None:
    """Raise ``KeyboardInterrupt`` if a signal has arrived and the work has not yet ended because of it.

    This is for handlers of other exceptions, because the signal may have caused them, for example by killing a worker.
    """
    if _interrupts.received:
        raise KeyboardInterrupt


def say_failed(count: str, lines: Sequence[str]) -> None:
    """List on standard error what a command of ``llie`` could not do.

    Args:
        count: First line, which says how much failed, such as ``'2 of 7 failed'``.
        lines: File and reason of each failure.
    """
    say("\n  ".join([f"llie: error: {count}:", *map(printable, lines)]))


def say(line: str) -> None:
    """Write a line to standard error, below the progress bars."""
    _close_progress_bars()
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr, flush=True)


def _undisturbed(work: Callable[[], int | None], outermost: bool) -> int:
    try:
        with _interrupt_counts() if outermost else contextlib.nullcontext():
            status = work() or 0
            _flush_output()
    except SystemExit:
        # The parser raises SystemExit after a page of help, and a benchmark after its child has ended.
        raise_if_interrupted()
        _flush_output()
        raise
    return status


@contextlib.contextmanager
def _interrupt_counts() -> Iterator[None]:
    """Let an interrupt end the block as ``KeyboardInterrupt``, whatever exception libraries turned it into."""
    try:
        yield
    except Exception:
        raise_if_interrupted()
        raise
    raise_if_interrupted()


class _Interrupts:
    """Handling of SIGINT and SIGTERM.

    Attributes:
        received: Number of signals that have arrived and have not yet ended the work.
        own_process: Whether the process runs only this program, and may be ended at any time.
        harmless: Number of open blocks in which nothing needs to be cleaned up, such as those of ``importing``. In
            them, a signal ends the process at once.
    """

    def __init__(self) -> None:
        self.received = self.harmless = self._depth = 0
        self.own_process = self._forked = False
        self._prefix = ""
        self._last = signal.SIGINT
        self._ended: int | None = None

    @contextlib.contextmanager
    def taken(self, prefix: str) -> Iterator[bool]:
        """Handle the signals until the outermost block ends, and yield whether this block is the outermost one."""
        # Python lets only the main thread set handlers.
        if self._depth or threading.current_thread() is not threading.main_thread():
            yield not self._depth
            return
        self._depth, self.received, self._prefix = 1, 0, prefix
        # A signal that is ignored from outside, by nohup or for a shell's background job, stays ignored.
        before = {n: signal.getsignal(n) for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}
        hooks = sys.unraisablehook, sys.excepthook, threading.excepthook
        sys.unraisablehook, sys.excepthook, threading.excepthook = self._unraisable, self._uncaught, self._failed_thread
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield True
        finally:
            self._depth = 0
            if not self.own_process:
                sys.unraisablehook, sys.excepthook, threading.excepthook = hooks
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received, self._last = self.received + 1, signal.Signals(number)
        if self._ended is not None:
            # The work is done and the process is about to end; a second signal ends it at once.
            if self.received > 1:
                os._exit(self._ended)
            return
        # Before the work and right after it, nothing needs to be cleaned up.
        if self.own_process and (self.harmless or not self._depth):
            self._end("interrupted")
        if not _interrupt_under_way():
            raise KeyboardInterrupt
        if self.received > 2:
            self._end("ended at once: temporary files may be left")
        _write(f"{self._prefix}interrupted, and cleaning up; another signal ends at once\n")

    def work_ended(self, status: object) -> None:
        """Let the process end with its own status from now on, whatever signals arrive.

        Args:
            status: Status of the process, as an argument of ``sys.exit``.
        """
        self.received, self._ended = 0, status if isinstance(status, int) else FAILED if status else 0

    def ignore(self) -> None:
        """Ignore the signals, so that none kills the process while Python shuts down and no longer runs handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _end(self, message: str) -> NoReturn:
        _write(f"{self._prefix}{message}\n")
        os._exit(INTERRUPTED)

    def _unraisable(self, problem: Any) -> None:
        """Raise an interrupt again if it was raised where Python cannot pass it on, such as in a finalizer."""
        if not isinstance(problem.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(problem)
            return
        self.received -= 1
        # The signal goes to the main thread itself, so that it ends whatever that thread waits for.
        timer = threading.Timer(_AGAIN, signal.pthread_kill, [threading.main_thread().ident, self._last])
        timer.daemon = True
        timer.start()

    def _uncaught(self, *error: Any) -> None:
        # Worker processes and their parent exchange files by threads. If an interrupt has ended one side, the thread of
        # the other side fails; this is not reported.
        ended = self.received or self._forked
        if not ended or threading.current_thread() is threading.main_thread():
            sys.__excepthook__(*error)

    def _failed_thread(self, failure: Any) -> None:
        if not self.received:
            threading.__excepthook__(failure)

    def leave_to_parent(self) -> None:
        """Ignore Ctrl-C of the terminal in a forked child, because the parent handles it and ends its children."""
        if self._depth:
            self._forked = True
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


_interrupts = _Interrupts()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_interrupts.leave_to_parent)


def _interrupt_under_way() -> bool:
    """Whether the clean-up after an earlier interrupt is running."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _flush_output() -> None:
    # There is no standard output if it was closed before Python started.
    if sys.stdout is not None:
        sys.stdout.flush()


def _drop_output() -> None:
    """Redirect a standard output that nobody reads, because Python flushes standard output at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(prefix: str, error: BaseException) -> int:
    say(f"{prefix}error: {one_line(error) or type(error).__name__}")
    return USAGE


def _close_progress_bars() -> None:
    """Close the progress bars, which an exception's traceback keeps open, so that a message gets its own line."""
    if (tqdm := sys.modules.get("tqdm")) is not None:
        for bar in list(getattr(tqdm.tqdm, "_instances", ())):
            bar.close()


def _write(line: str) -> None:
    """Write to standard error without Python's buffers, which may be in use when a signal arrives."""
    with contextlib.suppress(OSError):
        os.write(2, line.encode())
