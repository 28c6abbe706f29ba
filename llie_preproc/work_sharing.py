"""Processes that a launcher started together: who they are, how they share work, and how they wait for each other.

They meet in a key-value store, without a process group: what runs inside one of them, MMEngine's Runner for one, sees
a single process.

Whether the others live is not left to the launchers: torchrun ends the processes of its own machine alone, and srun
those of a job that was started with ``--kill-on-bad-exit``. A process that waits for a dead one would wait for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
"""MMEngine's names: one process, torchrun, ``srun``, Open MPI's ``mpirun``."""

PATIENCE = 600.0
"""Seconds that a rank may be without a sign of life, or late at the start, before the others give it up."""

_DEFAULT_PORT = "29500"
_STARTED_BY = {"pytorch": "torchrun", "slurm": "srun", "mpi": "Open MPI's mpirun"}
# Variables of the rank, the number of processes and the rank on the machine.
_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
# Signs of life within the patience: a few may be late.
_BEATS = 20
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.002, 0.5
_STOPPED = "stopped"
# A process may meet the others several times: the number keeps what they leave there apart.
_meetings = itertools.count()


class LostRankError(ConnectionError):
    """Another rank failed, died, or never came."""


@dataclass(frozen=True)
class Launch:
    """What a launcher tells a process by its environment.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its machine, from 0.
        address, port: Place where rank 0 is met.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"the launcher's rank must be from 0 to {self.size - 1}, got {self.rank}")

    @property
    def device(self) -> int | None:
        """The CUDA device of this process; None without CUDA.

        Processes take the devices in turn where these are fewer (SLURM may show each process its own alone).
        """
        return self.local_rank % torch.cuda.device_count() if torch.cuda.is_available() else None

    def export(self) -> None:
        """Set the variables by which PyTorch, and MMEngine's launcher ``pytorch``, find each other."""
        local_rank = self.local_rank if self.device is None else self.device
        values = dict(RANK=self.rank, WORLD_SIZE=self.size, LOCAL_RANK=local_rank, MASTER_PORT=self.port)
        os.environ.update({name: str(value) for name, value in values.items()}, MASTER_ADDR=self.address)


def read_launch(launcher: str) -> Launch:
    """Read the environment that a launcher made, as MMEngine's ``init_dist`` does, which also starts a process group.

    ``MASTER_ADDR`` and ``MASTER_PORT`` (29500 where it is missing) say where rank 0 is met. Without an address, SLURM's
    node list gives it by ``scontrol``; Open MPI needs one on more than one machine.

    Args:
        launcher: Name out of :data:`LAUNCHERS`, but ``'none'``.

    Raises:
        ValueError: Another launcher, or a variable that is missing or no whole number.
    """
    if launcher not in _STARTED_BY:
        raise ValueError(f"launcher must be one of {', '.join(_STARTED_BY)}, got {launcher!r}")
    rank, size, local_rank = (_number(name, launcher) for name in _VARIABLES[launcher])
    address = os.environ.get("MASTER_ADDR") or _address(launcher, size)
    return Launch(rank, size, local_rank, address, _number("MASTER_PORT", launcher, _DEFAULT_PORT))


def _address(launcher: str, size: int) -> str:
    if launcher == "slurm":
        return _first_node()
    if launcher == "mpi" and _number("OMPI_COMM_WORLD_LOCAL_SIZE", launcher) == size:
        return "127.0.0.1"
    if launcher == "mpi":
        raise ValueError("--launcher mpi: MASTER_ADDR is not set: name rank 0's machine (mpirun -x MASTER_ADDR=...)")
    return _variable("MASTER_ADDR", launcher)


def _first_node() -> str:
    # A step may run on a part of the job's nodes.
    nodes = os.environ.get("SLURM_STEP_NODELIST") or _variable("SLURM_NODELIST", "slurm")
    command = ["scontrol", "show", "hostnames", nodes]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError) as error:
        raise ValueError(
            f"'{' '.join(command)}' names no machine ({error}): set MASTER_ADDR to that of rank 0"
        ) from error


def _variable(name: str, launcher: str, default: str = "") -> str:
    if value := os.environ.get(name) or default:
        return value
    raise ValueError(
        f"--launcher {launcher}: {name} is not set: start it with {_STARTED_BY[launcher]}, or leave --launcher out"
    )


def _number(name: str, launcher: str, default: str = "") -> int:
    text = _variable(name, launcher, default)
    if not text.isdecimal():
        raise ValueError(f"--launcher {launcher}: {name} must be a whole number, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class Ranks:
    """The processes that share some work, as one of them sees them; one process alone by default.

    What all must call, they call in one order: :meth:`barrier`, :meth:`gather`, :meth:`broadcast`, :meth:`require_same`
    and :meth:`take`. As a context manager: the ranks leave together, the first one last, and one that leaves by an
    exception tells the others, which find out where they wait next.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        meeting: Place where they meet; None for one process.
    """

    rank: int = 0
    size: int = 1
    meeting: Meeting | None = field(default=None, repr=False)
    _calls: Iterator[int] = field(default_factory=itertools.count, init=False, repr=False, compare=False)
    _own: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def main(self) -> bool:
        """Whether this is the rank that reports, and writes what is written once."""
        return self.rank == 0

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """This rank's part: every ``size``-th, from the ``rank``-th on."""
        return itertools.islice(items, self.rank, None, self.size)

    def take(self, count: int) -> Iterator[int]:
        """Numbers from 0 to ``count - 1`` in this order, each to the rank that asks first."""
        name = f"take/{next(self._calls)}"
        while (number := self.tally(name) - 1) < count:
            yield number

    def tally(self, name: str, amount: int = 1) -> int:
        """Add to a counter of all ranks; returns what it comes to."""
        if self.meeting is not None:
            return self.meeting.add(f"tally/{name}", amount)
        self._own[name] = self._own.get(name, 0) + amount
        return self._own[name]

    def barrier(self) -> None:
        """Wait until all ranks are here.

        Raises:
            LostRankError: One failed, died or did not come.
        """
        self.gather(None)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on every rank; as JSON holds them.

        Raises:
            LostRankError: As for :meth:`barrier`.
        """
        if self.meeting is None:
            return [json.loads(json.dumps(value))]
        name = f"gather/{next(self._calls)}"
        self.meeting.set(f"{name}/{self.rank}", value)
        if self.main:
            self.meeting.set(name, [self.meeting.get(f"{name}/{rank}") for rank in range(self.size)])
        return self.meeting.get(name)

    def broadcast(self, value: T) -> T:
        """The first rank's value, whatever the others have; as JSON holds it."""
        return self.gather(value)[0]

    def require_same(self, what: str, value: str) -> None:
        """Wait for all ranks, which must come with one ``value``.

        Raises:
            ValueError: They do not.
            LostRankError: As for :meth:`barrier`.
        """
        values = self.gather(value)
        if others := [rank for rank, each in enumerate(values) if each != values[0]]:
            raise ValueError(f"{_named(others)} and rank 0 differ in {what}: all must see the same files")

    def announce(self, event: str) -> None:
        """Let those go on that wait for an event."""
        if self.meeting is not None:
            self.meeting.set(f"event/{event}", True)

    def wait_for(self, event: str) -> None:
        """Wait until a rank announces an event; one process alone does not wait.

        Raises:
            LostRankError: As for :meth:`barrier`.
        """
        if self.meeting is not None:
            self.meeting.get(f"event/{event}")

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.meeting is None:
            return
        try:
            if error is None:
                self._leave(self.meeting)
            else:
                self.meeting.give_up(error)
        finally:
            self.meeting.close()

    def _leave(self, meeting: Meeting) -> None:
        # A launcher may end all once one has ended with a failure: none ends before all are done.
        self.barrier()
        if not self.main:
            meeting.set(f"left/{self.rank}", True)
            return
        # The store may live in this process: it ends last.
        with contextlib.suppress(LostRankError):
            for rank in range(1, self.size):
                meeting.get(f"left/{rank}")


class Meeting:
    """A key-value store where ranks leave values for each other, and hear whether the others live.

    Args:
        store: Store that all share.
        rank, size: Numbers, as for :class:`Ranks`.
        patience: Seconds without a sign of life before a rank is given up. A working rank gives one all the time: how
            long its work takes does not count.
    """

    def __init__(self, store: distributed.Store, rank: int, size: int, patience: float = PATIENCE) -> None:
        self._store, self._rank, self._patience = store, rank, patience
        self._others = [other for other in range(size) if other != rank]
        self._heart = _Heart(store, _beats(rank), patience / _BEATS)

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; returns what it comes to."""
        with _as_lost():
            return self._store.add(key, amount)

    def set(self, key: str, value: Any) -> None:
        """Leave a value, as JSON."""
        with _as_lost():
            self._store.set(key, json.dumps(value))

    def get(self, key: str) -> Any:
        """A value, once a rank has left it.

        Raises:
            LostRankError: Before that a rank stopped, or fell silent.
        """
        watch, pause = _Watch(self._store, self._others, self._patience), _SHORTEST_PAUSE
        # The store's own 'wait' would keep the heart from the connection, and is deaf to an interrupt.
        with _as_lost():
            while not self._store.check([key]):
                if self._store.check([_STOPPED]):
                    raise LostRankError(self._store.get(_STOPPED).decode())
                watch.check()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            return json.loads(self._store.get(key))

    def give_up(self, error: BaseException) -> None:
        """Tell the others why this rank stops; the first one to stop is why the others do."""
        text = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(_STOPPED, "", f"rank {self._rank} stopped: {text}")

    def close(self) -> None:
        """Give no more signs of life."""
        self._heart.stop()


def alone() -> Ranks:
    """One process, which has all the work."""
    return Ranks()


def join_ranks(launcher: str, patience: float = PATIENCE) -> Ranks:
    """Meet the other processes that a launcher started; use the result as a context manager.

    The variables that PyTorch needs are set in the environment, and where there is CUDA this process gets its device.

    Args:
        launcher: Name out of :data:`LAUNCHERS`.
        patience: Seconds, as for :class:`Meeting`.

    Raises:
        ValueError: As :func:`read_launch` has it.
        LostRankError: Not all came, or rank 0's port is taken.
    """
    if launcher == "none":
        return alone()
    launch = read_launch(launcher)
    launch.export()
    if launch.device is not None:
        torch.cuda.set_device(launch.device)
    if launch.size == 1:
        return alone()
    ranks = Ranks(launch.rank, launch.size, Meeting(_meet(launch, patience), launch.rank, launch.size, patience))
    try:
        ranks.barrier()
    except BaseException as error:
        ranks.__exit__(type(error), error, None)
        raise
    return ranks


def _meet(launch: Launch, patience: float) -> distributed.Store:
    # The store is not told how many come, for which it would wait: the first barrier does, and says who is missing.
    try:
        store, _, _ = next(distributed.rendezvous("env://?world_size=-1", timeout=timedelta(seconds=patience)))
    except RuntimeError as error:
        reason = "cannot be a meeting point" if launch.rank == 0 else "does not answer: rank 0 did not come"
        first_line = (str(error).splitlines() or [""])[0]
        message = f"{launch.address}:{launch.port} {reason} ({first_line}); MASTER_PORT chooses another port"
        raise LostRankError(message) from error
    # What another job leaves at the same address and port is not taken for ours.
    job = os.environ.get("SLURM_JOB_ID", "") + os.environ.get("TORCHELASTIC_RUN_ID", "")
    return distributed.PrefixStore(f"llie_preproc/{job}/{next(_meetings)}", store)


class _Heart(threading.Thread):
    """Says all the time that its rank is alive."""

    def __init__(self, store: distributed.Store, key: str, interval: float) -> None:
        super().__init__(name="llie_preproc ranks", daemon=True)
        self._store, self._key, self._interval = store, key, interval
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        # Without the store nobody listens: whoever waits next raises the error.
        with contextlib.suppress(RuntimeError):
            self._store.add(self._key, 1)
            while not self._ended.wait(self._interval):
                self._store.add(self._key, 1)

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=10)


class _Watch:
    """Listens to others' hearts."""

    def __init__(self, store: distributed.Store, ranks: Iterable[int], patience: float) -> None:
        self._store, self._patience = store, patience
        self._heard = dict.fromkeys(ranks, (-1, 0.0))
        self._next = 0.0

    def check(self) -> None:
        """Raise ``LostRankError`` where a rank has been silent for the whole patience."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._patience / _BEATS
        silent = [rank for rank in self._heard if self._silence(rank, now) > self._patience]
        if silent:
            raise LostRankError(f"{_named(silent)} did not come, or died: no sign of life for {self._patience:g} s")

    def _silence(self, rank: int, now: float) -> float:
        beats, since = self._heard[rank]
        # Adding nothing reads the number, also of a rank that has not begun.
        if (heard := self._store.add(_beats(rank), 0)) != beats:
            self._heard[rank] = (heard, since := now)
        return now - since


@contextlib.contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError("the process that the others meet at is gone: rank 0, or the launcher") from error


def _beats(rank: int) -> str:
    return f"beats/{rank}"


def _named(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
