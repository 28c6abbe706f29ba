"""Processes that share work read their launcher's environment, divide the work, and report lost processes."""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import PrefixStore, TCPStore

from llie_preproc.work_sharing import Launch, LostRankError, Meeting, Ranks, alone, join_ranks, read_launch
from tests.support.processes import Programs

TORCHRUN = dict(RANK="1", WORLD_SIZE="4", LOCAL_RANK="1", MASTER_ADDR="one", MASTER_PORT="1234")
SLURM = dict(SLURM_PROCID="5", SLURM_NTASKS="8", SLURM_LOCALID="1", SLURM_NODELIST="node[3-4]")
OPEN_MPI = {f"OMPI_COMM_WORLD_{name}": text for name, text in dict(RANK="1", SIZE="2", LOCAL_RANK="1").items()}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that sets variables of a launcher; those of all launchers are unset before and restored afterwards."""
    known = [*TORCHRUN, *SLURM, *OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_NODELIST", "SLURM_JOB_ID"]
    for name in known:
        # Setting them first makes pytest restore what a test exports.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def put(**variables: str) -> None:
        for name, text in variables.items():
            monkeypatch.setenv(name, text)

    return put


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for SLURM's command, which names the machines of one list."""
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[3-4]" ] || exit 1\nprintf "node3\\nnode4\\n"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return command


# The environment of launchers.


@pytest.mark.parametrize(
    ("launcher", "variables", "launch"),
    [
        ("pytorch", TORCHRUN, Launch(1, 4, 1, "one", 1234)),
        ("slurm", SLURM, Launch(5, 8, 1, "node3", 29500)),
        (
            "slurm",
            {**SLURM, "SLURM_NODELIST": "node[1-9]", "SLURM_STEP_NODELIST": "node[3-4]"},
            Launch(5, 8, 1, "node3", 29500),
        ),
        ("slurm", {**SLURM, "MASTER_ADDR": "two", "MASTER_PORT": "77"}, Launch(5, 8, 1, "two", 77)),
        ("mpi", {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, Launch(1, 2, 1, "127.0.0.1", 29500)),
        ("mpi", {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1", "MASTER_ADDR": "two"}, Launch(1, 2, 1, "two", 29500)),
    ],
)
def test_the_environment_of_each_launcher_is_read(
    environment: Callable, scontrol: Path, launcher: str, variables: dict[str, str], launch: Launch
) -> None:
    environment(**variables)
    assert read_launch(launcher) == launch
    launch.export()
    # After the export PyTorch reads the same values, whichever launcher started the process.
    exported = read_launch("pytorch")
    assert (exported.rank, exported.size, exported.address, exported.port) == (
        launch.rank,
        launch.size,
        launch.address,
        launch.port,
    )


@pytest.mark.parametrize(
    ("launcher", "variables", "message"),
    [
        ("pytorch", {}, "RANK is not set: start the command with torchrun, or without --launcher"),
        ("pytorch", {**TORCHRUN, "MASTER_PORT": "x"}, "MASTER_PORT must be a whole number, got 'x'"),
        ("pytorch", {**TORCHRUN, "RANK": "4"}, "rank must be from 0 to 3, got 4"),
        ("slurm", {}, "SLURM_PROCID is not set: start the command with srun"),
        ("slurm", {**SLURM, "SLURM_NODELIST": "other"}, "'scontrol show hostnames other' names no machine"),
        ("mpi", {}, "OMPI_COMM_WORLD_RANK is not set: start the command with Open MPI's mpirun"),
        ("mpi", {**OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "MASTER_ADDR is not set"),
        ("horovod", {}, "pytorch, slurm, mpi, got 'horovod'"),
    ],
)
def test_a_missing_or_wrong_variable_is_named(
    environment: Callable, scontrol: Path, launcher: str, variables: dict[str, str], message: str
) -> None:
    environment(**variables)
    with pytest.raises(ValueError, match=re.escape(message)):
        join_ranks(launcher)


def test_a_single_process_needs_no_process_group(environment: Callable, scontrol: Path) -> None:
    environment(**{**SLURM, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"})
    with join_ranks("slurm") as ranks:
        assert (ranks.rank, ranks.size, ranks.main) == (0, 1, True)
        assert ranks.gather({"a": (1, 2)}) == [{"a": [1, 2]}]
        ranks.barrier()
    assert os.environ["MASTER_ADDR"] == "node3"
    # With a process group, MMEngine's Runner would train as one of several processes.
    assert not torch.distributed.is_initialized()


def test_more_processes_than_devices_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Launch(rank, 5, rank, "one", 1).device for rank in range(5)] == [0, 1, 0, 1, 0]


# Sharing.


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_are_a_partition(items: list[int], size: int) -> None:
    shares = [list(Ranks(rank, size).share(items)) for rank in range(size)]
    places = [list(Ranks(rank, size).share(range(len(items)))) for rank in range(size)]
    assert sorted(place for share in places for place in share) == list(range(len(items)))
    assert [[items[place] for place in share] for share in places] == shares
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_takes_everything_in_order() -> None:
    ranks = alone()
    assert list(ranks.take(4)) == [0, 1, 2, 3]
    assert list(ranks.take(2)) == [0, 1]
    assert [ranks.tally("done"), ranks.tally("done", 3), ranks.tally("done", 0)] == [1, 4, 4]


# Several ranks: each is a thread with its own connection.


class Several:
    """Runs functions as ranks; returns their results or exceptions."""

    def __init__(self) -> None:
        self.server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.meetings = 0

    def run(self, *functions: Callable[[Ranks], Any], size: int | None = None, patience: float = 20) -> list[Any]:
        outcomes: list[Any] = [None] * len(functions)
        self.meetings += 1

        def call(rank: int, function: Callable[[Ranks], Any]) -> None:
            try:
                with self.ranks(rank, size or len(functions), patience) as ranks:
                    outcomes[rank] = function(ranks)
            except BaseException as error:
                outcomes[rank] = error

        threads = [threading.Thread(target=call, args=pair) for pair in enumerate(functions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        return outcomes

    def ranks(self, rank: int, size: int, patience: float) -> Ranks:
        client = TCPStore("127.0.0.1", self.server.port, timeout=timedelta(seconds=10), wait_for_workers=False)
        return Ranks(rank, size, Meeting(PrefixStore(str(self.meetings), client), rank, size, patience))


@pytest.fixture
def several() -> Several:
    return Several()


def test_every_rank_gets_the_values_of_all(several: Several) -> None:
    def work(ranks: Ranks) -> Any:
        return ranks.gather([ranks.rank, "ü"]), ranks.broadcast(ranks.rank + 7)

    assert several.run(work, work, work) == [([[0, "ü"], [1, "ü"], [2, "ü"]], 7)] * 3


def test_no_rank_passes_a_barrier_before_all_have_arrived(several: Several) -> None:
    seen: list[int] = []

    def work(ranks: Ranks) -> int:
        time.sleep(0.1 * ranks.rank)
        seen.append(ranks.rank)
        ranks.barrier()
        return len(seen)

    assert several.run(work, work, work) == [3, 3, 3]


def test_a_free_rank_takes_the_next_piece_of_work(several: Several) -> None:
    def work(ranks: Ranks) -> list[int]:
        taken = []
        for number in ranks.take(7):
            # The first piece takes long.
            time.sleep(0.6 if number == 0 else 0.01)
            taken.append(number)
        return taken

    taken = several.run(work, work)
    assert sorted(taken[0] + taken[1]) == list(range(7))
    assert sorted(map(len, taken)) == [1, 6]


def test_a_rank_that_waits_for_an_event_continues_after_it(several: Several) -> None:
    order: list[str] = []

    def first(ranks: Ranks) -> None:
        time.sleep(0.1)
        order.append("trained")
        ranks.announce("raw")

    def second(ranks: Ranks) -> None:
        ranks.wait_for("raw")
        order.append("evaluated")

    assert several.run(first, second) == [None, None]
    assert order == ["trained", "evaluated"]


def test_different_plans_are_refused(several: Several) -> None:
    def work(ranks: Ranks) -> None:
        ranks.require_same("the pictures", "other" if ranks.rank == 1 else "same")

    outcomes = several.run(work, work, work)
    assert all(isinstance(each, ValueError) for each in outcomes)
    assert all("rank 1 and rank 0 differ in the pictures" in str(each) for each in outcomes)


def test_a_rank_that_stops_tells_the_others(several: Several) -> None:
    def failing(ranks: Ranks) -> None:
        raise ValueError("no weights")

    outcomes = several.run(Ranks.barrier, failing, Ranks.barrier)
    assert str(outcomes[1]) == "no weights"
    for each in (outcomes[0], outcomes[2]):
        assert isinstance(each, LostRankError)
        assert str(each) == "rank 1 stopped: ValueError: no weights"


def test_a_rank_that_does_not_arrive_is_named(several: Several) -> None:
    first, second = several.run(Ranks.barrier, Ranks.barrier, size=3, patience=1)
    assert isinstance(first, LostRankError)
    assert "rank 2 did not arrive, or died" in str(first)
    assert isinstance(second, LostRankError)
    assert "rank 2" in str(second)


def test_a_rank_that_works_long_is_not_lost(several: Several) -> None:
    def working(ranks: Ranks) -> None:
        time.sleep(1.5)
        ranks.barrier()

    assert several.run(Ranks.barrier, working, patience=0.5) == [None, None]


def test_a_lost_store_is_reported(several: Several) -> None:
    def losing(ranks: Ranks) -> None:
        time.sleep(0.1)
        del several.server
        ranks.barrier()

    for outcome in several.run(Ranks.barrier, losing):
        assert isinstance(outcome, LostRankError)
        assert "with the store, which is rank 0 or the launcher, is gone" in str(outcome)


@pytest.mark.slow
def test_processes_of_slurm_meet_at_the_first(
    environment: Callable, scontrol: Path, tmp_path: Path, programs: Programs
) -> None:
    # Without torchrun rank 0 holds the store, so it must not end before the others.
    script = tmp_path / "work.py"
    script.write_text(
        "import sys\n"
        "from llie_preproc.work_sharing import join_ranks\n"
        "for _ in range(2):\n"
        "    with join_ranks('slurm') as ranks:\n"
        "        found = ranks.gather(ranks.rank)\n"
        "print(found)\n"
        "sys.exit(3)\n"
    )
    scontrol.write_text("#!/bin/sh\necho 127.0.0.1\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        environment(**{**SLURM, "SLURM_NTASKS": "2", "MASTER_PORT": str(free.getsockname()[1])})
    processes = [
        programs.start(script, environment={"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}) for rank in range(2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, out) == (3, "[0, 1]\n"), err


def test_no_thread_is_left(several: Several) -> None:
    before = threading.active_count()
    several.run(Ranks.barrier, Ranks.barrier)
    assert threading.active_count() <= before
