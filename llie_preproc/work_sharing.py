"""Sharing work between processes that a launcher started together; they can also wait for each other.

The processes communicate through a key-value store and without a process group, so that code inside one of them, such
as MMEngine's Runner, sees a single process.

The processes check themselves whether the others are alive, because launchers do not do this in all cases: torchrun
ends only the processes of its own machine, and srun only those of a job with ``--kill-on-bad-exit``. Without the check,
a process that waits for a dead one would wait for ever.
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
"""MMEngine's names for one process, torchrun, ``srun``, and Open MPI's ``mpirun``."""

PATIENCE = 600.0
"""Seconds for which a rank may give no sign of life, or be late at the start, before the others give up."""

_DEFAULT_PORT = "29500"
_STARTED_BY = {"pytorch": "torchrun", "slurm": "srun", "mpi": "Open MPI's mpirun"}
# These variables hold the rank, the number of processes and the rank on the machine.
_VARIABLES = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
# Number of signs of life that are given within the patience; there are several, because some may be late.
_BEATS = 20
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.002, 0.5
_STOPPED = "stopped"
# A process may meet the others several times; the number separates the values of the meetings.
_meetings = itertools.count()


class LostRankError(ConnectionError):
    """Another rank failed, died, or never arrived."""


@dataclass(frozen=True)
class Launch:
    """The values that a launcher passes to a process in its environment.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        local_rank: Number of this process on its machine, from 0.
        address, port: Address and port at which rank 0 is reached.

    Examples:
        >>> Launch(rank=2, size=2, local_rank=0, address="127.0.0.1", port=29500)
        Traceback (most recent call last):
        ValueError: the launcher's rank must be from 0 to 1, got 2
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

        If there are fewer devices than processes, they are assigned in turn (SLURM may show each process only its own).
        """
        return self.local_rank % torch.cuda.device_count() if torch.cuda.is_available() else None

    def export(self) -> None:
        """Set the variables that PyTorch, and MMEngine's launcher ``pytorch``, read to connect processes."""
        local_rank = self.local_rank if self.device is None else self.device
        values = dict(RANK=self.rank, WORLD_SIZE=self.size, LOCAL_RANK=local_rank, MASTER_PORT=self.port)
        os.environ.update({name: str(value) for name, value in values.items()}, MASTER_ADDR=self.address)


def read_launch(launcher: str) -> Launch:
    """Read the environment that a launcher set, as MMEngine's ``init_dist`` does before it starts a process group.

    ``MASTER_ADDR`` and ``MASTER_PORT`` (29500 if it is missing) say where rank 0 is reached. If there is no address,
    ``scontrol`` finds it in SLURM's node list. Open MPI needs an address if there is more than one machine.

    Args:
        launcher: Name from :data:`LAUNCHERS` except ``'none'``.

    Raises:
        ValueError: The launcher is unknown, or a variable is missing or not a whole number.

    Examples:
        >>> read_launch("none")
        Traceback (most recent call last):
        ValueError: launcher must be one of pytorch, slurm, mpi, got 'none'
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
        raise ValueError(
            "--launcher mpi: MASTER_ADDR is not set: give the address of rank 0's machine (mpirun -x MASTER_ADDR=...)"
        )
    return _variable("MASTER_ADDR", launcher)


def _first_node() -> str:
    # A step may run on only a part of the job's nodes.
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
        f"--launcher {launcher}: {name} is not set: start the command with {_STARTED_BY[launcher]}, or without "
        "--launcher"
    )


def _number(name: str, launcher: str, default: str = "") -> int:
    text = _variable(name, launcher, default)
    if not text.isdecimal():
        raise ValueError(f"--launcher {launcher}: {name} must be a whole number, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class Ranks:
    """The processes that share some work, as one of them sees them; by default, a single process.

    All ranks must call :meth:`barrier`, :meth:`gather`, :meth:`broadcast`, :meth:`require_same` and :meth:`take` in the
    same order. At the end of a ``with`` block, the ranks leave together, and rank 0 leaves last. A rank that leaves by
    an exception tells the others, which raise :class:`LostRankError` where they next wait.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes.
        meeting: Store through which they communicate; None for a single process.

    Examples:
        >>> with Ranks() as ranks:
        ...     ranks.gather("result"), list(ranks.take(3))
        (['result'], [0, 1, 2])
        >>> list(Ranks(rank=1, size=2).share("abcd"))
        ['b', 'd']
    """

    rank: int = 0
    size: int = 1
    meeting: Meeting | None = field(default=None, repr=False)
    _calls: Iterator[int] = field(default_factory=itertools.count, init=False, repr=False, compare=False)
    _own: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def main(self) -> bool:
        """Whether this is the rank that reports, and that writes the common files."""
        return self.rank == 0

    def share(self, items: Iterable[T]) -> Iterator[T]:
        """Yield this rank's part: every ``size``-th item, starting with item ``rank``."""
        return itertools.islice(items, self.rank, None, self.size)

    def take(self, count: int) -> Iterator[int]:
        """Yield numbers from 0 to ``count - 1`` in this order, each to the rank that asks first."""
        name = f"take/{next(self._calls)}"
        while (number := self.tally(name) - 1) < count:
            yield number

    def tally(self, name: str, amount: int = 1) -> int:
        """Add to a counter that all ranks share, and return its new value."""
        if self.meeting is not None:
            return self.meeting.add(f"tally/{name}", amount)
        self._own[name] = self._own.get(name, 0) + amount
        return self._own[name]

    def barrier(self) -> None:
        """Wait until all ranks are here.

        Raises:
            LostRankError: A rank failed, died or did not arrive.
        """
        self.gather(None)

    def gather(self, value: T) -> list[T]:
        """Collect the values of all ranks, in the order of the ranks, on every rank; they are passed as JSON.

        Raises:
            LostRankError: A rank failed, died or did not arrive.
        """
        if self.meeting is None:
            return [json.loads(json.dumps(value))]
        name = f"gather/{next(self._calls)}"
        self.meeting.set(f"{name}/{self.rank}", value)
        if self.main:
            self.meeting.set(name, [self.meeting.get(f"{name}/{rank}") for rank in range(self.size)])
        return self.meeting.get(name)

    def broadcast(self, value: T) -> T:
        """Return the value of rank 0 on every rank; it is passed as JSON."""
        return self.gather(value)[0]

    def require_same(self, what: str, value: str) -> None:
        """Wait for all ranks, and check that they have the same ``value``.

        Raises:
            ValueError: Values differ.
            LostRankError: A rank failed, died or did not arrive.
        """
        values = self.gather(value)
        if others := [rank for rank, each in enumerate(values) if each != values[0]]:
            raise ValueError(f"{_named(others)} and rank 0 differ in {what}: all must see the same files")

    def announce(self, event: str) -> None:
        """Let the ranks that wait for an event continue."""
        if self.meeting is not None:
            self.meeting.set(f"event/{event}", True)

    def wait_for(self, event: str) -> None:
        """Wait until a rank announces an event; a single process does not wait.

        Raises:
            LostRankError: A rank failed, died or did not arrive.
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
        # No rank ends before all are done, because a launcher may end all ranks after one has failed.
        self.barrier()
        if not self.main:
            meeting.set(f"left/{self.rank}", True)
            return
        # The store may be in this process, so this rank ends last.
        with contextlib.suppress(LostRankError):
            for rank in range(1, self.size):
                meeting.get(f"left/{rank}")


class Meeting:
    """A key-value store in which ranks leave values for each other, and see whether the others are alive.

    Args:
        store: Store that all ranks share.
        rank, size: Number of this rank and number of ranks, as for :class:`Ranks`.
        patience: Seconds without a sign of life after which a rank counts as lost. A rank gives signs of life while it
            works, so the duration of its work does not matter.

    Examples:
        >>> meeting = Meeting(distributed.HashStore(), rank=0, size=1)
        >>> meeting.set("weights", [1, 2])
        >>> meeting.get("weights"), meeting.add("done", 3)
        ([1, 2], 3)
        >>> meeting.close()
    """

    def __init__(self, store: distributed.Store, rank: int, size: int, patience: float = PATIENCE) -> None:
        self._store, self._rank, self._patience = store, rank, patience
        self._others = [other for other in range(size) if other != rank]
        self._heart = _Heart(store, _beats(rank), patience / _BEATS)

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, and return its new value."""
        with _as_lost():
            return self._store.add(key, amount)

    def set(self, key: str, value: Any) -> None:
        """Store a value as JSON."""
        with _as_lost():
            self._store.set(key, json.dumps(value))

    def get(self, key: str) -> Any:
        """Wait until a rank has stored a value, and return it.

        Raises:
            LostRankError: A rank stopped or became silent before that.
        """
        watch, pause = _Watch(self._store, self._others, self._patience), _SHORTEST_PAUSE
        # The store's own 'wait' would block the connection for the signs of life, and ignore an interrupt.
        with _as_lost():
            while not self._store.check([key]):
                if self._store.check([_STOPPED]):
                    raise LostRankError(self._store.get(_STOPPED).decode())
                watch.check()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            return json.loads(self._store.get(key))

    def give_up(self, error: BaseException) -> None:
        """Tell the others why this rank stops; only the reason of the first rank that stops is kept."""
        text = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(_STOPPED, "", f"rank {self._rank} stopped: {text}")

    def close(self) -> None:
        """Stop giving signs of life."""
        self._heart.stop()


def alone() -> Ranks:
    """A single process, which does all the work.

    Examples:
        >>> alone().main, list(alone().share("ab"))
        (True, ['a', 'b'])
    """
    return Ranks()


def join_ranks(launcher: str, patience: float = PATIENCE) -> Ranks:
    """Connect to the other processes that a launcher started; use the result in a ``with`` statement.

    The variables that PyTorch needs are set in the environment, and with CUDA the device of this process is set.

    Args:
        launcher: Name from :data:`LAUNCHERS`.
        patience: Seconds, as for :class:`Meeting`.

    Raises:
        ValueError: :func:`read_launch` refuses the environment.
        LostRankError: Not all ranks arrived, or rank 0's port is in use.

    Examples:
        >>> join_ranks("none").size
        1
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
    # Without the number of ranks, the store does not wait for all; the first barrier waits, and names missing ranks.
    try:
        store, _, _ = next(distributed.rendezvous("env://?world_size=-1", timeout=timedelta(seconds=patience)))
    except RuntimeError as error:
        reason = "cannot be opened" if launch.rank == 0 else "does not answer: rank 0 did not arrive"
        first_line = (str(error).splitlines() or [""])[0]
        message = f"{launch.address}:{launch.port} {reason} ({first_line}); MASTER_PORT chooses another port"
        raise LostRankError(message) from error
    # The prefix separates the values of another job at the same address and port from ours.
    job = os.environ.get("SLURM_JOB_ID", "") + os.environ.get("TORCHELASTIC_RUN_ID", "")
    return distributed.PrefixStore(f"llie_preproc/{job}/{next(_meetings)}", store)


class _Heart(threading.Thread):
    """A thread that regularly gives signs of life of its rank."""

    def __init__(self, store: distributed.Store, key: str, interval: float) -> None:
        super().__init__(name="llie_preproc ranks", daemon=True)
        self._store, self._key, self._interval = store, key, interval
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        # If the store is gone, the rank raises an error where it next waits.
        with contextlib.suppress(RuntimeError):
            self._store.add(self._key, 1)
            while not self._ended.wait(self._interval):
                self._store.add(self._key, 1)

    def stop(self) -> None:
        self._ended.set()
        self.join(timeout=10)


class _Watch:
    """A check that other ranks give signs of life."""

    def __init__(self, store: distributed.Store, ranks: Iterable[int], patience: float) -> None:
        self._store, self._patience = store, patience
        self._heard = dict.fromkeys(ranks, (-1, 0.0))
        self._next = 0.0

    def check(self) -> None:
        """Raise ``LostRankError`` if a rank has been silent for longer than the patience."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._patience / _BEATS
        silent = [rank for rank in self._heard if self._silence(rank, now) > self._patience]
        if silent:
            raise LostRankError(f"{_named(silent)} did not arrive, or died: no sign of life for {self._patience:g} s")

    def _silence(self, rank: int, now: float) -> float:
        beats, since = self._heard[rank]
        # Adding 0 reads the number, even for a rank that has not started.
        if (heard := self._store.add(_beats(rank), 0)) != beats:
            self._heard[rank] = (heard, since := now)
        return now - since


@contextlib.contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError("the process with the store, which is rank 0 or the launcher, is gone") from error


def _beats(rank: int) -> str:
    return f"beats/{rank}"


def _named(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
