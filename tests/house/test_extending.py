"""All files and commands of ``docs/extending.md`` work as printed, in their order."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.docs_pages import Block, blocks
from tests.support.places import PACKAGES, ROOT, copy_packages
from tests.support.processes import Ended, Programs

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
pytest.importorskip("skimage.data", reason="needs the extra 'metrics'")

PAGE = ROOT / "docs" / "extending.md"
BLOCKS = blocks(PAGE)
RUN = [block for block in BLOCKS if block.file is None]


class Reader:
    """Someone who follows the page in a folder of their own.

    Args:
        folder: Folder to work in.
        programs: Starter of programs.
        bare_programs: Starter of programs that must import changed packages of this project anew.
    """

    def __init__(self, folder: Path, programs: Programs, bare_programs: Programs) -> None:
        self.folder, self._programs, self._bare_programs = folder, programs, bare_programs
        self._installed, self._clone = folder / "site-packages", folder / "clone"
        self._installed.mkdir()

    def follow(self, block: Block) -> Ended | None:
        """Write the file of a block, or run the block."""
        if block.file:
            ours = block.file.partition("/")[0] in PACKAGES
            if ours and not self._clone.exists():
                copy_packages(self._clone)
            path = (self._clone if ours else self.folder) / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            return None
        if block.language == "python":
            return self._run(["-c", block.text])
        return self._run_lines(block)

    def _run_lines(self, block: Block) -> Ended:
        assert block.language == "sh", f"{PAGE}:{block.line}: a block of {block.language} is neither a file nor run"
        done = [self._run_line(line) for line in block.text.replace("\\\n", " ").splitlines()]
        status = next((each.returncode for each in done if each.returncode), 0)
        return Ended(status, *("".join(each[field] for each in done) for field in (1, 2)))

    def _run_line(self, line: str) -> Ended:
        words = shlex.split(line, comments=True)
        variables = dict(word.split("=", 1) for word in words if re.fullmatch(r"[A-Z_]+=.*", word))
        program, *arguments = words[len(variables) :]
        if program == "pip":
            assert arguments == ["install", "-e", "."]
            self._install()
            return Ended(0, "", "")
        if program == "llie":
            return self._run(["-m", "llie_preproc", *arguments], variables)
        assert program == "python"
        # The page runs tests of the repository in a clone of it.
        return self._run(arguments, variables, ROOT if "tests/" in line else self.folder)

    def _run(self, command: list[str], variables: dict[str, str] | None = None, folder: Path | None = None) -> Ended:
        changed = self._clone.exists()
        programs, packages = (self._bare_programs, self._clone) if changed else (self._programs, ROOT)
        own = dict(variables or {})
        path = [*filter(None, [own.pop("PYTHONPATH", "")]), self._installed, packages]
        environment = {**own, "PYTHONPATH": os.pathsep.join(map(str, path))}
        return programs.run(*command, environment=environment, folder=folder or self.folder)

    def _install(self) -> None:
        """Write the metadata and links that ``pip install -e`` would write."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())
        about = project["project"]
        info = self._installed / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
        groups = [
            f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entries.items())
            for group, entries in about["entry-points"].items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
        for package in project["tool"]["setuptools"]["packages"]:
            (self._installed / package).symlink_to(self.folder / package)


@pytest.fixture(scope="module")
def followed(
    tmp_path_factory: pytest.TempPathFactory, _programs: Programs, _bare_programs: Programs
) -> Iterator[dict[int, Ended | None]]:
    """Results of the blocks, by line."""
    reader = Reader(tmp_path_factory.mktemp("extending"), _programs, _bare_programs)
    yield {block.line: reader.follow(block) for block in BLOCKS}
    for each in (_programs, _bare_programs):
        each.end_all()


def test_files_of_this_repository_keep_its_line_length() -> None:
    long = [
        f"{PAGE.name}:{block.line}"
        for block in BLOCKS
        if block.file and block.file.partition("/")[0] in PACKAGES
        if any(len(line) > 120 for line in block.text.splitlines())
    ]
    assert long == []


@pytest.mark.parametrize("block", RUN, ids=lambda block: f"{block.heading}, line {block.line}")
def test_each_block_runs_and_prints_the_output_shown(block: Block, followed: dict[int, Ended]) -> None:
    done = followed[block.line]
    assert done.returncode == 0, done.stdout + done.stderr
    if block.expected is not None:
        assert block.prints(done.stdout), done.stdout
