"""Which files of a folder tree are pictures."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})

FileKey = tuple[int, int] | str
"""What two names of one file or folder share."""


@dataclass
class PictureTree:
    """What lies below a folder.

    Attributes:
        files: Everything whose name is that of a picture, sorted by path; reading it says whether it is one. Links to
            files count as what they lead to, wherever that is: a user put each of them there.
        others: Number of other files, and of links to folders of the tree, whose pictures are found once.
        problems: Sentence for each folder that was left out: it cannot be listed, or a link to it leaves the tree.
    """

    files: list[Path] = field(default_factory=list)
    others: int = 0
    problems: list[str] = field(default_factory=list)


def is_picture(path: Path, suffixes: Collection[str] = SUFFIXES) -> bool:
    """Whether a file's name is that of a picture: a known suffix, and no dot in front (macOS leaves ``._a.png``)."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def scan_tree(
    root: Path, suffixes: Collection[str] = SUFFIXES, left_out: Collection[FileKey | None] = ()
) -> PictureTree:
    """Find the pictures below a folder; each real folder is visited once, and none outside of the tree.

    A folder whose own name is that of a picture counts as a file where no picture lies below it.

    Args:
        root: Folder, or a link to one.
        suffixes: Suffixes of pictures, in lower case.
        left_out: Folders not to visit, by :func:`file_key`.

    Raises:
        OSError: ``root`` itself cannot be listed.
    """
    tree, visited, named = PictureTree(), set(left_out), []
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        if (key := file_key(folder)) in visited:
            continue
        visited.add(key)
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            if folder == root:
                raise
            tree.problems.append(f"{folder}: this folder cannot be listed ({error.strerror})")
            continue
        if is_picture(folder, suffixes) and folder != root:
            named.append(folder)
        for entry in entries:
            path = folder / entry.name
            if not _is_folder(entry):
                _add_file(tree, path, suffixes)
            elif entry.is_symlink():
                _add_link(tree, path, root)
            else:
                waiting.append(path)
    parents = {parent for file in tree.files for parent in file.parents}
    tree.files = sorted([*tree.files, *(folder for folder in named if folder not in parents)])
    tree.problems.sort()
    return tree


def file_key(path: Path) -> FileKey | None:
    """What is equal for two names of one file or folder; None for what cannot be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    # Some network disks number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _add_file(tree: PictureTree, path: Path, suffixes: Collection[str]) -> None:
    if is_picture(path, suffixes):
        tree.files.append(path)
    else:
        tree.others += 1


def _add_link(tree: PictureTree, path: Path, root: Path) -> None:
    """A link to a folder is not followed: below the root its pictures are found anyway, and outside it never ends."""
    target = Path(os.path.realpath(path))
    if path.name.startswith(".") or target.is_relative_to(os.path.realpath(root)):
        tree.others += 1
    else:
        tree.problems.append(f"{path}: this link leads to {target}, outside of {root}, and is not followed")
