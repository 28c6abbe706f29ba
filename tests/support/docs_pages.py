"""The code blocks of a page of the docs, with the output that the page shows for them."""

from __future__ import annotations

import doctest
import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
_HEADING = re.compile(r"^#+ (.+)$", re.M)
_ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Block:
    """A code block.

    Attributes:
        language: Language that the opening fence names.
        text: Content.
        line: Number of the fence's line.
        heading: Heading above it.
        expected: Content of the ``text`` block that follows, which is what the block should print; None if no such
            block follows.
    """

    language: str
    text: str
    line: int
    heading: str
    expected: str | None = None

    @property
    def file(self) -> str | None:
        """Name of the file that the block holds, from the comment in its first line; None if the block is to be run."""
        found = _FILE.match(self.text)
        return found[1] if found else None

    def prints(self, output: str) -> bool:
        """Whether ``output`` is the expected one, where ``...`` matches anything and white space does not count."""
        return doctest.OutputChecker().check_output(self.expected or "", output, _ELLIPSIS)


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page in order; a ``text`` block becomes the expected output of the block before it."""
    found: list[Block] = []
    content = page.read_text(encoding="utf-8")
    for fenced in FENCE.finditer(content):
        language, text = fenced.groups()
        if language == "text":
            found[-1].expected = text
        else:
            above = content[: fenced.start()]
            heading = _HEADING.findall(FENCE.sub("", above))[-1]
            found.append(Block(language, text, above.count("\n") + 1, heading))
    return found
