"""Programs of the project in processes of their own, which start at once because they are forked.

A test of the start itself, for example of its imports, starts ``python`` instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from torch.distributed import TCPStore

from tests.support.places import ROOT

from .programs import LIBRARIES, PRELOADED

_TIMEOUT = 300.0


class Ended(NamedTuple):
    """Status and output of a process that has ended."""

    returncode: int
    stdout: str
    stderr: str


class Process:
    """A forked program, with some of the methods of ``subprocess.Popen``.

    Args:
        connection: Connection to the fork server, over which the program was requested.
        streams: Files of the standard output and error.
    """

    def __init__(self, connection: socket.socket, streams: list[IO[str]]) -> None:
        # ``select`` would not see a reply that is in a buffer already.
        self._replies, self._streams = connection.makefile("rb", buffering=0), streams
        connection.close()
        self.pid = self._reply()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The status; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float = _TIMEOUT) -> int:
        """Wait for the end; returns the status, which is negative after a signal."""
        if self.returncode is None:
            readable, _, _ = select.select([self._replies], [], [], timeout)
            if not readable:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            self.returncode = self._reply()
        return self.returncode

    def communicate(self, timeout: float = _TIMEOUT) -> tuple[str, str]:
        """Wait for the end; returns the standard output and error."""
        self.wait(timeout)
        for stream in self._streams:
            stream.seek(0)
        out, err = (stream.read() for stream in self._streams)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _reply(self) -> int:
        if not (line := self._replies.readline()):
            raise RuntimeError("the fork server has ended")
        return int(line)


class Programs:
    """Starts programs from a fork server, which starts with the first program and is shared by pytest's workers.

    Every program computes with one thread and sees no CUDA device.

    Args:
        name: Name of the server.
        modules: Modules that the server imports if they are installed.
    """

    def __init__(self, name: str, modules: Sequence[str]) -> None:
        self._modules = modules
        # The path of a socket has at most about a hundred characters.
        folder = tempfile.gettempdir()
        self._folder = Path(folder if len(folder) < 50 else "/tmp", f"llie_{name}_{_RUN}")  # noqa: S108
        self._address = self._folder / "socket"
        self._started: list[Process] = []

    def start(
        self,
        *command: object,
        environment: dict[str, str] | None = None,
        folder: Path | None = None,
        new_session: bool = False,
    ) -> Process:
        """Start a program.

        Args:
            command: Arguments of ``python``: ``-m`` and a module, ``-c`` and code, or a file; then the program's own.
            environment: Environment variables in addition to those of this process.
            folder: Working folder; this process's by default.
            new_session: Whether the program leads a process group of its own.
        """
        return self._fork(command, environment or {}, folder, new_session, [_temporary_file(), _temporary_file()])

    def run(self, *command: object, environment: dict[str, str] | None = None, folder: Path | None = None) -> Ended:
        """Run a program to its end."""
        process = self.start(*command, environment=environment, folder=folder)
        out, err = process.communicate()
        return Ended(process.wait(), out, err)

    def run_together(self, count: int, *command: object, environment: dict[str, str] | None = None) -> Ended:
        """Run a program in ``count`` processes of one group, as ``torchrun`` does.

        The processes write to the same two streams. If one fails, the others are ended. The status is the first that is
        not 0.
        """
        # This process keeps the store, as a launcher does: a rank that ends early would end its store too.
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "WORLD_SIZE": str(count),
            "LOCAL_WORLD_SIZE": str(count),
            **(environment or {}),
        }
        streams = [_temporary_file(), _temporary_file()]
        ranks = [
            self._fork(command, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, None, False, streams)
            for rank in range(count)
        ]
        while (running := [rank for rank in ranks if rank.poll() is None]) and not any(r.returncode for r in ranks):
            select.select([rank._replies for rank in running], [], [], _TIMEOUT)
        status = next((rank.returncode for rank in ranks if rank.returncode), 0)
        for rank in ranks:
            rank.send_signal(signal.SIGTERM)
            rank.wait()
        out, err = ranks[0].communicate()
        return Ended(status, out, err)

    def end_all(self) -> None:
        """Kill the programs that still run."""
        for process in self._started:
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._started.clear()

    def _fork(
        self,
        command: tuple[object, ...],
        environment: dict[str, str],
        folder: Path | None,
        new_session: bool,
        streams: list[IO[str]],
    ) -> Process:
        request = {
            "command": [str(part) for part in command],
            "environment": {**os.environ, **_ONE_THREAD_ON_THE_CPU, **environment},
            "folder": str(folder or Path.cwd()),
            "new_session": new_session,
        }
        connection = self._connection()
        with Path(os.devnull).open() as nothing:
            files = [nothing.fileno(), *(stream.fileno() for stream in streams)]
            socket.send_fds(connection, [b"\n"], files)
            connection.sendall(json.dumps(request).encode())
            connection.shutdown(socket.SHUT_WR)
            process = Process(connection, streams)
        self._started.append(process)
        return process

    def _connection(self) -> socket.socket:
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._address.exists():
                self._start_server()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self._address))
        return connection

    def _start_server(self) -> None:
        path = str(ROOT)
        log = self._folder / "log"
        with log.open("w") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forkserver", str(self._address), str(_OWNER), *self._modules],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **_ONE_THREAD_ON_THE_CPU, "PYTHONPATH": path},
            )
        while not self._address.exists():
            if server.poll() is not None:
                raise RuntimeError(f"the fork server does not start: {log.read_text()}")
            time.sleep(0.01)


# Number of the pytest process that starts the workers; without workers, it is this one.
_OWNER = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)[:16]
_ONE_THREAD_ON_THE_CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _temporary_file() -> IO[str]:
    return tempfile.TemporaryFile("a+", encoding="utf-8")


def _session(name: str, modules: Sequence[str]) -> Programs:
    if not hasattr(os, "fork"):
        pytest.skip("the platform has no os.fork")
    return Programs(name, modules)


@pytest.fixture(scope="session")
def _programs() -> Programs:
    return _session("programs", PRELOADED)


@pytest.fixture(scope="session")
def _bare_programs() -> Programs:
    return _session("bare", LIBRARIES)


@pytest.fixture
def programs(_programs: Programs) -> Iterator[Programs]:
    """Starts programs in processes of their own; those that still run after the test are killed."""
    yield _programs
    _programs.end_all()


@pytest.fixture
def bare_programs(_bare_programs: Programs) -> Iterator[Programs]:
    """Starts programs in which other libraries are imported already, but neither this project nor MMDetection."""
    yield _bare_programs
    _bare_programs.end_all()
