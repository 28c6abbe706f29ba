"""A process that imports heavy modules once, and forks a program for each request.

``python -m tests.support.forkserver SOCKET OWNER MODULE...`` imports the modules and listens. A request is a command
line of ``python``, with its environment, folder and standard streams. The answer is a line with the number of the
process and, once the process has ended, a line with its status. The server ends when the process with the number OWNER
has ended.

A forked program differs from a newly started one in two ways: modules are imported already, and all programs share one
seed for the hashes of strings. It sees no CUDA device, since CUDA does not survive a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from .shortcuts import take_shortcuts

_STREAMS = 3


class Request(NamedTuple):
    """A program to fork.

    Attributes:
        content: Dictionary with ``command``, ``environment``, ``folder`` and ``new_session``.
        streams: File descriptors of the standard input, output and error.
    """

    content: dict[str, Any]
    streams: list[int]


def main() -> None:
    """Serve; each forked child leaves the loop and becomes the program of its request."""
    address, owner, *modules = sys.argv[1:]
    for module in modules:
        # A program that needs a missing extra reports that itself.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    if "mmengine" in sys.modules:
        take_shortcuts()
    _require_one_thread()
    # The children's garbage collection does not touch frozen objects, so their memory stays shared.
    gc.collect()
    gc.freeze()
    if request := _serve(address, int(owner)):
        _become(request)
        os._exit(_status_of(request.content["command"]))
    shutil.rmtree(Path(address).parent, ignore_errors=True)


def _require_one_thread() -> None:
    """Raise if this process has several threads.

    A fork copies only the thread that calls it, so a lock that another thread holds would stay locked.
    """
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and (count := len(list(tasks.iterdir()))) > 1:
        raise RuntimeError(f"the imports of the fork server started {count - 1} threads, expected none")


def _serve(address: str, owner: int) -> Request | None:
    """Fork for each request while the owner lives; returns the request in the child, None in the server."""
    listener = socket.socket(socket.AF_UNIX)
    # The address must not be visible before a connection is possible.
    listener.bind(f"{address}.new")
    listener.listen()
    os.rename(f"{address}.new", address)  # noqa: PTH104
    woken, waking = socket.socketpair()
    for each in (woken, waking):
        each.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(waking.fileno())
    selector = selectors.DefaultSelector()
    for each in (listener, woken):
        selector.register(each, selectors.EVENT_READ)
    running: dict[int, socket.socket] = {}
    while _lives(owner):
        ready = [key.fileobj for key, _ in selector.select(timeout=1.0)]
        if woken in ready:
            woken.recv(4096)
            _report_ended(running)
        if listener in ready:
            connection, _ = listener.accept()
            request = _read(connection)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                for each in (selector, listener, woken, waking, connection, *running.values()):
                    each.close()
                return request
            for stream in request.streams:
                os.close(stream)
            connection.sendall(f"{pid}\n".encode())
            running[pid] = connection
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _read(connection: socket.socket) -> Request:
    text, streams, _, _ = socket.recv_fds(connection, 1 << 16, _STREAMS)
    while part := connection.recv(1 << 16):
        text += part
    return Request(json.loads(text), streams)


def _report_ended(running: dict[int, socket.socket]) -> None:
    for pid, connection in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            # The process that asked may have ended.
            with contextlib.suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()
            del running[pid]


def _become(request: Request) -> None:
    """Take over the streams, session, folder and environment of the request."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    if request.content["new_session"]:
        os.setsid()
    os.chdir(request.content["folder"])
    os.environ.clear()
    os.environ.update(request.content["environment"])
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def _status_of(command: list[str]) -> int:
    """Run a command line of ``python``, with its exit handlers; returns the status.

    The loaded modules are not torn down afterwards, because that takes a second.
    """
    status: object = 1
    try:
        _run(*command)
        status = 0
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return status if isinstance(status, int) else int(status is not None)


def _run(kind: str, *rest: str) -> None:
    searched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in searched if folder not in ("", *sys.path)]
    if kind == "-m":
        module, *arguments = rest
        sys.argv = [module, *arguments]
        sys.path.insert(0, str(Path.cwd()))
        # The server has imported the module already, and runpy warns of that.
        warnings.filterwarnings("ignore", f".*{module.rpartition('.')[2]}.* found in sys.modules", RuntimeWarning)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        code, *arguments = rest
        sys.argv = [kind, *arguments]
        sys.path.insert(0, "")
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        sys.argv = [kind, *rest]
        sys.path.insert(0, str(Path(kind).parent))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
