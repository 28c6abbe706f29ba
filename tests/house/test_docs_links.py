"""The documentation has no broken links, and its commands, flags, modules, files and make targets exist."""

from __future__ import annotations

import importlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from llie_preproc import registry
from llie_preproc.commands.llie import find_commands, parse_args
from tests.support.docs_pages import FENCE, blocks
from tests.support.places import ROOT

PAGES = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()]
PAGES += sorted((ROOT / "docs").glob("*.md"))
# The page extending.md has commands that only its examples add; test_extending.py runs them.
WITH_COMMANDS = [page for page in PAGES if page.name != "extending.md"]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
EVERY_PAGE_WITH_COMMANDS = pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)

LINK = re.compile(r"\]\(([^)\s]+)\)")
DOTTED = re.compile(r"(?<![\w.])((?:llie_preproc|training|detection_eval|benchmarks)(?:\.(?!md\b)\w+)+)")
PATH = re.compile(
    r"(?<![\w/.])((?:llie_preproc|training|detection_eval|benchmarks|tests|mm_configs|docs)/[\w./{},*-]*\w)"
)
REGISTRIES = [each for each in vars(registry).values() if isinstance(each, registry.Registry)]


def prose(page: Path) -> str:
    """The text of a page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def code(page: Path) -> list[str]:
    """The code of a page: its blocks, then the texts in backticks."""
    blocks = [text for _, text in FENCE.findall(page.read_text(encoding="utf-8"))]
    return blocks + [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose(page))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.M):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


@EVERY_PAGE
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def calls(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Yield the words after ``llie`` of each call on a page, and whether the call is complete."""
    for language, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in ("sh", "shell"):
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "llie" in words:
                    words = words[words.index("llie") + 1 :]
                    yield words, not any("..." in word or "$" in word for word in words)
    for text in re.findall(r"`(llie [^`]+)`", prose(page)):
        yield re.sub(r"[\[\]]", "", text).split()[1:], False


def flags(words: list[str], capsys: pytest.CaptureFixture) -> set[str]:
    """The flags in the help of the command that a call names."""
    first = next(index for index, word in enumerate(words) if word.startswith("--"))
    with pytest.raises(SystemExit):
        parse_args([*words[:first], "--help"])
    return set(re.findall(r"(?<![\w-])--[\w-]+", capsys.readouterr().out))


@EVERY_PAGE_WITH_COMMANDS
def test_commands_have_the_flags_that_pages_show(
    page: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for words, whole in calls(page):
        given = {word for word in words if word.startswith("--")}
        if whole:
            parse_args(words)
        elif words[0] in find_commands()[0]:
            assert not given or given <= flags(words, capsys), words
        else:
            assert words[0] in ("COMMAND", "--help"), words


def is_there(name: str, own: set[str]) -> bool:
    """Whether a dotted name is a module, a name in one, a registered name, or a class that the page adds."""
    package, _, last = name.rpartition(".")
    if package == "llie_preproc" and (last in own or any(each.get(name) for each in REGISTRIES)):
        return True
    parts = name.split(".")
    if parts[0] == "benchmarks":
        # The import of a benchmark would start it.
        return find_spec(".".join(parts[:2])) is not None
    module = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        if not hasattr(module, part):
            try:
                importlib.import_module(".".join(parts[:number]))
            except ModuleNotFoundError:
                return False
        module = getattr(module, part)
    return True


@EVERY_PAGE
def test_dotted_names_can_be_imported(page: Path) -> None:
    own = {name for text in code(page) for name in re.findall(r"^class (\w+)", text, re.M)}
    names = {name for text in code(page) for name in DOTTED.findall(text)}
    assert [name for name in sorted(names) if not is_there(name, own)] == []


def spelled_out(path: str) -> list[str]:
    """The paths that a path with alternatives in braces stands for."""
    choice = re.search(r"\{([^}]*)\}", path)
    if choice is None:
        return [path]
    return [each for word in choice[1].split(",") for each in spelled_out(path.replace(choice[0], word, 1))]


@EVERY_PAGE
def test_paths_of_the_project_exist(page: Path) -> None:
    made = {block.file for block in blocks(page)}
    named = {path for text in code(page) for path in PATH.findall(text.replace("<name>", "NAME"))} - made
    # A word in capitals stands for any name.
    paths = [re.sub(r"[A-Z]{4,}", "*", each) for path in named for each in spelled_out(path)]
    assert [path for path in sorted(paths) if not list(ROOT.glob(path))] == []


@EVERY_PAGE
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {name for text in code(page) for name in re.findall(r"\bmake ([a-z][\w-]*)", text)}
    assert named <= targets
