"""``atomic_write`` and ``atomic_path`` write whole files or none, name the file in errors, and leave nothing behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.files import atomic_path, atomic_write, remove_leftovers
from llie_preproc.pictures import Picture, write_picture
from tests.support.killed_writers import killed_while_writing

# Python 3.12 and later warn about forks in processes with threads; these children only write a file.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_leftovers_of_the_given_targets_are_removed(tmp_path: Path) -> None:
    # The two names share more characters than a temporary name has room for.
    mine, other = tmp_path / ("n" * 100 + "a.png"), tmp_path / ("n" * 100 + "b.png")
    for path in (mine, mine, other):
        killed_while_writing(path)
    by_user = [".a.png.tmp", ".nnn.0123456789abcdef.tmp", "nnn.tmp"]
    for name in by_user:
        (tmp_path / name).write_bytes(b"")
    assert len(names(tmp_path)) == 6
    assert remove_leftovers([mine, tmp_path / "none.png", tmp_path / "nowhere" / "x.png"]) == 2
    assert len(names(tmp_path)) == 4
    assert remove_leftovers([other]) == 1
    assert names(tmp_path) == sorted(by_user)


def test_a_file_that_a_living_process_writes_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with atomic_write(path) as file:
        file.write(b"whole")
        assert remove_leftovers([path]) == 0
    assert names(tmp_path) == ["a.png"]
    (began, begin), (goes_on, go_on) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with atomic_write(path) as file:
            os.write(begin, b"!")
            os.read(goes_on, 1)
            file.write(b"of the other process")
        os._exit(0)
    os.read(began, 1)
    assert len(names(tmp_path)) == 2
    assert remove_leftovers([path]) == 0
    os.write(go_on, b"!")
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_bytes() == b"of the other process"


def test_removing_leftovers_does_not_disturb_writers(tmp_path: Path) -> None:
    path, done = tmp_path / "a.png", threading.Event()

    def clean() -> None:
        while not done.is_set():
            remove_leftovers([path])

    cleaning = [threading.Thread(target=clean) for _ in range(2)]
    for thread in cleaning:
        thread.start()
    try:
        for number in range(50):
            with atomic_write(path) as file:
                file.write(b"%d" % number)
            assert path.read_bytes() == b"%d" % number
    finally:
        done.set()
        for thread in cleaning:
            thread.join()
    assert names(tmp_path) == ["a.png"]


def test_a_file_made_between_opening_and_locking_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    killed_while_writing(path)
    (leftover,) = tmp_path.iterdir()
    lock = fcntl.flock

    def lock_late(descriptor: int, flags: int) -> None:
        leftover.unlink()
        leftover.write_bytes(b"of the writer who lost the first one")
        lock(descriptor, flags)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    assert remove_leftovers([path]) == 0
    assert leftover.read_bytes() == b"of the writer who lost the first one"


def write(path: Path) -> None:
    with atomic_write(path) as file:
        file.write(bytes(100_000))


def save_by_numpy(path: Path) -> None:
    with atomic_write(path) as file:
        np.save(file, np.zeros(100_000))


def save_by_torch(path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(torch.zeros(100_000), file)


def save_by_torch_by_name(path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(torch.zeros(100_000), temporary)


def save_weights(path: Path) -> None:
    save_state_dict({"a": torch.zeros(100_000)}, path)


def save_picture(path: Path) -> None:
    write_picture(path, Picture(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)))


@contextlib.contextmanager
def files_of_at_most(length: int) -> Iterator[None]:
    """Make the system refuse larger files, as it refuses writes on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "writer",
    [write, save_by_numpy, save_by_torch, save_by_torch_by_name, save_weights, save_picture],
    ids=lambda writer: writer.__name__,
)
def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path, writer: Callable[[Path], None]) -> None:
    path = tmp_path / "result.png"
    path.write_bytes(b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match=r"result\.png") as caught:
        writer(path)
    assert ".tmp" not in str(caught.value).replace(str(tmp_path.parent), "")
    assert names(tmp_path) == ["result.png"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG])
def test_the_number_of_the_error_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"a\.json") as caught:
        write(tmp_path / "a.json")
    assert caught.value.errno == number
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "none", "other.txt"), ConnectionError("lost"), OSError("of another kind")]
)
def test_errors_about_other_things_pass_unchanged(tmp_path: Path, error: OSError) -> None:
    def fail() -> None:
        with atomic_write(tmp_path / "a.json"):
            raise error

    with pytest.raises(OSError, match=re.escape(str(error))) as caught:
        fail()
    assert caught.value is error
    assert names(tmp_path) == []


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a\.onnx: nothing was written"), atomic_path(tmp_path / "a.onnx"):
        pass
    assert names(tmp_path) == []


def test_atomic_write_follows_the_umask_and_takes_long_names(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250 + ".png")
    mask = os.umask(0o027)
    try:
        with atomic_write(path) as file:
            file.write(b"new")
            assert not path.exists()
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_atomic_path_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.mp4", ".tmp.mp4") as temporary:
        temporary.write_bytes(b"new")
        assert temporary.suffix == ".mp4"
        assert not (tmp_path / "a.mp4").exists()
    assert (tmp_path / "a.mp4").read_bytes() == b"new"

    def broken() -> None:
        with atomic_path(tmp_path / "a.mp4") as temporary:
            temporary.write_bytes(b"newer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"new"
