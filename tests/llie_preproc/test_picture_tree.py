"""``scan_tree`` finds each picture of a folder once, whatever links to it, and reports what it leaves out."""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llie_preproc.enhance_files import plan_jobs
from llie_preproc.errors import ImageError
from llie_preproc.picture_tree import scan_tree
from llie_preproc.pictures import picture_files


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def found(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in scan_tree(root).files]


def test_folders_that_link_to_each_other_give_each_picture_once(tmp_path: Path) -> None:
    folders = [tmp_path / "in" / name for name in "abcdef"]
    for folder in folders:
        touch(folder / "x.png")
    for folder in folders:
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
        (folder / "up").symlink_to(folder.parent)
    plan = plan_jobs(tmp_path / "in", tmp_path / "out")
    assert [job.source for job in plan.jobs] == [folder / "x.png" for folder in folders]
    assert (plan.ignored, plan.problems) == (42, [])
    assert picture_files(tmp_path / "in") == [folder / "x.png" for folder in folders]


NAMES = st.sampled_from(["a", "b", "c.png", "d.jpg", ".e"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pictures=st.sets(st.tuples(PATHS, st.sampled_from(["x.png", "y.TIF", ".z.png", "note.txt"])), max_size=8),
    links=st.lists(st.tuples(PATHS, PATHS), max_size=6),
)
def test_the_pictures_are_those_of_a_walk_without_links(
    pictures: set[tuple[str, str]], links: list[tuple[str, str]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        root.mkdir()
        for parent, name in pictures:
            touch(root / parent / name)
        for at, to in links:
            if (root / to).is_dir() and not os.path.lexists(root / at) and (root / at).parent.is_dir():
                (root / at).symlink_to(root / to)
        walked = [Path(base, name) for base, _, names in os.walk(root) for name in names]
        expected = [path for path in walked if path.suffix in {".png", ".TIF"} and not path.name.startswith(".")]
        tree = scan_tree(root)
        # A folder with the name of a picture counts as a picture if none lies below it.
        assert [path for path in tree.files if not path.is_dir()] == sorted(expected)
        assert tree.problems == []


@pytest.mark.parametrize("up", [False, True])
def test_a_link_out_of_the_tree_is_reported_and_not_followed(tmp_path: Path, up: bool) -> None:
    touch(tmp_path / "elsewhere" / "b.png")
    touch(tmp_path / "in" / "a.png")
    outside = tmp_path if up else tmp_path / "elsewhere"
    (tmp_path / "in" / "out").symlink_to(outside)
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    plan = plan_jobs(tmp_path / "in", tmp_path / "results")
    # A link to a picture is followed, because a user made it on purpose.
    assert [job.source.name for job in plan.jobs] == ["a.png", "c.png"]
    (problem,) = plan.problems
    assert str(tmp_path / "in" / "out") in problem
    assert f"leads to {outside}, outside" in problem
    with pytest.raises(ImageError, match=r"in/out: .*outside"):
        picture_files(tmp_path / "in")


def test_a_folder_with_the_name_of_a_picture_is_found_if_it_holds_no_picture_file(tmp_path: Path) -> None:
    touch(tmp_path / "used.png" / "sub" / "a.jpg")
    touch(tmp_path / "empty.jpg" / "note.txt")
    (tmp_path / "hollow.tif" / "inner.png").mkdir(parents=True)
    # Neither "hollow.tif" nor "inner.png" holds a file.
    assert found(tmp_path) == ["empty.jpg", "hollow.tif", "hollow.tif/inner.png", "used.png/sub/a.jpg"]


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that an unprivileged user uses, because the administrator may read and write everything."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        administrator = os.geteuid() == 0
        if administrator:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if administrator:
                os.seteuid(0)
            for path in Path(name).rglob("*"):
                if path.is_dir():
                    path.chmod(0o777)


def test_a_folder_that_cannot_be_listed_is_reported(unprivileged: Path) -> None:
    source = unprivileged / "in"
    for name in ("a/1.png", "b/2.png", "c/3.png"):
        touch(source / name)
    (source / "b").chmod(0)
    plan = plan_jobs(source, unprivileged / "out")
    assert [job.source.name for job in plan.jobs] == ["1.png", "3.png"]
    assert plan.problems == [f"{source}/b: this folder cannot be listed (Permission denied)"]
    with pytest.raises(ImageError, match=r"in/b: .*Permission denied"):
        picture_files(source)
    (source / "b").chmod(0o777)
    source.chmod(0)
    with pytest.raises(PermissionError, match="in"):
        plan_jobs(source, unprivileged / "out")


def test_a_target_without_write_permission_is_refused_at_once(unprivileged: Path) -> None:
    touch(unprivileged / "in" / "1.png")
    (unprivileged / "shut").mkdir(mode=0o555)
    with pytest.raises(PermissionError, match="shut: nothing can be written here"):
        plan_jobs(unprivileged / "in", unprivileged / "shut" / "out")


def make_nested(base: Path, name: str, levels: int) -> None:
    """Make nested folders with a picture in the last, even if its path is too long for a system call."""
    base.mkdir(parents=True, exist_ok=True)
    current = os.open(base, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=current)
        inner = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(os.open("deep.png", os.O_CREAT | os.O_WRONLY, dir_fd=current))
    os.close(current)


def test_a_path_beyond_the_systems_limit_is_reported(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png")
    make_nested(tmp_path / "in", "d" * 200, 30)
    plan = plan_jobs(tmp_path / "in", tmp_path / "out")
    assert [job.source.name for job in plan.jobs] == ["a.png"]
    assert len(plan.problems) == 1
    assert "too long" in plan.problems[0]


def test_a_tree_deeper_than_python_recurses_is_scanned(tmp_path: Path) -> None:
    make_nested(tmp_path / "in", "d", 400)
    before = sys.getrecursionlimit()
    # A tree of a thousand levels would exceed the default limit, but pytest could not remove it. A lower limit shows
    # the same.
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    try:
        found = scan_tree(tmp_path / "in").files
    finally:
        sys.setrecursionlimit(before)
    assert found == [tmp_path / "in" / "/".join(["d"] * 400) / "deep.png"]
