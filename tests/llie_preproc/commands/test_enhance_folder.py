"""``llie enhance`` of a folder reports each file that fails, with the reason, and enhances the rest."""

from __future__ import annotations

import errno
import os
import re
import resource
import unicodedata
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from llie_preproc import enhance_files as module
from llie_preproc.enhance_files import enhance_files, plan_jobs
from llie_preproc.enhancers import Enhancer, Identity
from llie_preproc.files import atomic_write
from llie_preproc.pictures import read_picture
from llie_preproc.registry import MODELS
from tests.support.command import Run, one_line
from tests.support.killed_writers import killed_while_writing
from tests.support.picture_files import files_below, make_picture
from tests.support.png_files import png_of
from tests.support.random_pictures import levels

# Python 3.12 and later warn about forks in processes with threads; these children only write a file.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def listed(err: str) -> dict[str, str]:
    """Reasons that the command gives for failed files, by the files' names."""
    return dict(re.findall(r"^  .*?([^/\n]+?): (.*)$", err, re.M))


# Memory.

SHORTAGES: dict[str, Callable[[], object]] = {
    "PyTorch": lambda: torch.empty(1 << 50),
    "NumPy": lambda: np.empty(1 << 50),
    "Python": lambda: bytearray(1 << 50),
    "OpenCV": lambda: cv2.resize(np.zeros((1, 1), np.uint8), (1 << 23, 1 << 23)),
}


@pytest.fixture
def greedy(monkeypatch: pytest.MonkeyPatch) -> type[Enhancer]:
    """A network that runs out of memory for a batch, and for a picture whose first pixel is white."""

    class Greedy(Enhancer):
        shortage = SHORTAGES["PyTorch"]
        layers: weakref.ref | None = None
        freed: ClassVar[list[bool]] = []

        def forward(self, image: Tensor) -> Tensor:
            if type(self).layers is not None:
                type(self).freed.append(type(self).layers() is None)
            layer = image + 1
            type(self).layers = weakref.ref(layer)
            if len(image) > 1 or image[0, :, 0, 0].min() == 1:
                type(self).shortage()
            return image

    monkeypatch.setitem(MODELS._module_dict, "Greedy", Greedy)
    return Greedy


@pytest.mark.parametrize("who", SHORTAGES)
def test_only_the_picture_too_large_for_memory_fails(llie: Run, tmp_path: Path, greedy: type, who: str) -> None:
    greedy.shortage = staticmethod(SHORTAGES[who])
    for seed in range(5):
        pixels = levels(seed)
        pixels[0, 0] = 255 if seed == 2 else 0
        make_picture(tmp_path / "in" / f"{seed}.png", pixels)
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Greedy", "--batch-size", 4)
    result = llie(*call)
    assert result.code == 1
    assert "4 enhanced; 1 failed" in result.out
    assert files_below(tmp_path / "out") == ["0.png", "1.png", "3.png", "4.png"]
    assert listed(result.err).keys() == {"2.png"}
    assert re.search(r"memory.*--tile.*--max-pixels", listed(result.err)["2.png"])
    # The memory of a failed attempt was free before the next one.
    assert all(greedy.freed)
    again = llie(*call, "--resume")
    assert again.code == 1
    assert "0 enhanced; 1 failed; 4 existed already" in again.out


def test_another_error_is_not_reported_as_a_lack_of_memory(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(Identity):
        def forward(self, image: Tensor) -> Tensor:
            return image @ image if image.shape[-1] > 1 else image

    monkeypatch.setitem(MODELS._module_dict, "Wrong", Wrong)
    make_picture(tmp_path / "in" / "a.png")
    with pytest.raises(RuntimeError, match=r"must match|Expected size"):
        llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Wrong")


def test_pictures_over_the_limit_of_pixels_are_refused(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "small.png")
    (tmp_path / "in" / "large.png").write_bytes(png_of(9000, 9000, 8, 0, bytes(99)))
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--overwrite")
    by_default = llie(*call)
    assert by_default.code == 1
    assert files_below(tmp_path / "out") == ["small.png"]
    (reason,) = listed(by_default.err).values()
    assert re.search(r"9000x9000 pixels, over the limit of 67108864 .*--max-pixels.*--tile", reason)
    # With tiles or a higher limit the picture is read, and found to be truncated.
    for options in (["--tile", 512], ["--max-pixels", 81_000_000]):
        (reason,) = listed(llie(*call, *options).err).values()
        assert "truncated" in reason
    both = llie(*call, "--max-pixels", 191)
    assert both.code == 1
    assert listed(both.err).keys() == {"small.png", "large.png"}
    assert llie(*call, "--max-pixels", 0).code == 2


# Names.

NAMES = [b"caf\xe9.png", b"new\nline.png", b"\x1b[31mred.png", "\u202egnp.a.png".encode(), "中文 é.png".encode()]


def test_names_of_any_bytes_are_kept_and_printed_safely(llie: Run, tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in NAMES:
        make_picture(source / os.fsdecode(name))
        (source / os.fsdecode(b"bad " + name)).write_bytes(b"")
    result = llie("enhance", source, "--out", tmp_path / "out", "--enhancer", "Identity")
    assert result.code == 1
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(NAMES)  # noqa: PTH208
    lines = [line for line in result.err.splitlines() if line.startswith("  ")]
    shown = [r"caf\xe9", r"new\nline", r"\x1b[31mred", r"\u202egnp.a", "中文 é"]
    assert sorted(lines) == sorted(f"  {source}/bad {name}.png: the file is empty" for name in shown)
    assert "\x1b[31m" not in result.err
    one_line(
        llie("enhance", source / "\x1b[31mno\udce9.png", "--out", tmp_path / "x.png"),
        r"\x1b[31mno\xe9.png: no such file",
    )


def test_only_the_result_whose_name_is_too_long_fails(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "a.jpg")
    # This name has 255 bytes; with .webp it has one more.
    (tmp_path / "in" / ("n" * 251 + ".jpg")).write_bytes((tmp_path / "in" / "a.jpg").read_bytes())
    (tmp_path / "out").mkdir()
    result = llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--format", "webp")
    assert result.code == 1
    assert files_below(tmp_path / "out") == ["a.webp"]
    (reason,) = listed(result.err).values()
    assert "too long" in reason
    # Names that just fit can be written, temporary names included.
    assert llie("enhance", tmp_path / "in", "--out", tmp_path / "as_is", "--enhancer", "Identity").code == 0
    assert len(files_below(tmp_path / "as_is")) == 2


# Leftovers and a full disk.


@pytest.mark.parametrize("flag", ["--resume", "--overwrite"])
def test_leftovers_of_killed_runs_are_removed(llie: Run, tmp_path: Path, flag: str) -> None:
    for name in ("a.png", "sub/b.png", "c.png"):
        make_picture(tmp_path / "in" / name)
    make_picture(tmp_path / "out" / "c.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"")
    for name in ("a.png", "sub/b.png", "c.png", "broken.png", "of another run.png"):
        killed_while_writing(tmp_path / "out" / name)
    assert len(files_below(tmp_path / "out")) == 6
    with atomic_write(tmp_path / "out" / "a.png") as file:
        file.write(b"a living process")
        assert llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", flag).code == 1
    left = files_below(tmp_path / "out")
    assert [name for name in left if not name.startswith(".")] == ["a.png", "c.png", "sub/b.png"]
    (hidden,) = [name for name in left if name.startswith(".")]
    assert hidden.startswith(".of another run.png.")
    assert (tmp_path / "out" / "a.png").read_bytes() == b"a living process"


def test_a_full_disk_ends_the_run_and_resuming_goes_on(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(9):
        make_picture(tmp_path / "in" / f"{seed}.png", levels(seed))
    fsync, calls = os.fsync, []

    def full_at_the_third(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_the_third)
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--batch-size", 1)
    result = llie(*call)
    assert result.code == 2
    assert "2 enhanced; 1 failed; 6 not done (--resume goes on)" in result.out
    assert re.search(r"llie: error: \S*out/2\.png: no space left on device\n$", result.err)
    assert files_below(tmp_path / "out") == ["0.png", "1.png"]
    assert len(calls) == 3
    monkeypatch.undo()
    assert llie(*call, "--resume").code == 0
    assert len(files_below(tmp_path / "out")) == 9


def test_only_the_file_that_the_disk_does_not_take_fails(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "large.png", levels(0, (60, 60)))
    make_picture(tmp_path / "in" / "small.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        result = llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.code == 1
    assert files_below(tmp_path / "out") == ["small.png"]
    assert re.search(r"in/large\.png: \S*out/large\.png: file too large\n", result.err)


# The tree of folders.


def test_folders_that_were_left_out_are_failures(llie: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    make_picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity")
    result = llie(*call)
    assert result.code == 1
    assert re.search(r"1 of 1 failed:\n  \S*in/linked: this link leads to", result.err)
    make_picture(tmp_path / "in" / "b.png")
    result = llie(*call)
    assert result.code == 1
    assert "1 enhanced" in result.out
    assert "1 of 2 failed:" in result.err
    assert files_below(tmp_path / "out") == ["b.png"]


def test_only_the_picture_that_vanishes_before_it_is_read_fails(tmp_path: Path) -> None:
    for seed in range(3):
        make_picture(tmp_path / "in" / f"{seed}.png", levels(seed))
    plan = plan_jobs(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "1.png").unlink()
    reasons = {job.source.name: reason for job, reason in enhance_files(plan.jobs, Identity())}
    assert [name for name, reason in reasons.items() if reason is None] == ["0.png", "2.png"]
    assert "no such file" in reasons["1.png"]
    assert files_below(tmp_path / "out") == ["0.png", "2.png"]


def test_a_file_in_place_of_a_folder_is_reported_and_the_rest_done(llie: Run, tmp_path: Path) -> None:
    make_picture(tmp_path / "in" / "sub" / "a.png")
    make_picture(tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_bytes(b"")
    result = llie("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity")
    assert result.code == 1
    assert files_below(tmp_path / "out") == ["b.png", "sub"]
    assert "out/sub" in result.err


@pytest.mark.parametrize("pair", [("a.png", "A.PNG"), ("é.png", unicodedata.normalize("NFD", "é.png"))])
def test_names_that_a_disk_does_not_tell_apart_are_refused(
    llie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pair: tuple[str, str]
) -> None:
    for seed, name in enumerate(pair):
        make_picture(tmp_path / "in" / name, levels(seed))
    if len(files_below(tmp_path / "in")) < 2:
        pytest.skip("this disk does not tell these names apart")
    call = ("enhance", tmp_path / "in", "--out", tmp_path / "out", "--enhancer", "Identity", "--overwrite")
    assert module.tells_letters(tmp_path)
    assert llie(*call).code == 0
    for seed, name in enumerate(pair):
        assert np.array_equal(read_picture(tmp_path / "out" / name).pixels, levels(seed))
    # This stands in for a disk of macOS or Windows, which the machine may lack.
    monkeypatch.setattr(module, "tells_letters", lambda folder: False)
    one_line(llie(*call), "would both become")
