"""The search for pictures in a folder tree."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})

FileKey = tuple[int, int] | str
"""Identity of a file or folder, which all its names share."""


@dataclass
class PictureTree:
    """Files below a folder.

    Attributes:
        files: Paths whose names are those of pictures, sorted; only reading a file shows whether it is one. A link to a
            file counts as that file, wherever it is, because a user has put the link there.
        others: Number of other files, and of links to folders of the tree (the tree is searched without them).
        problems: Sentence for each folder that was left out because it cannot be listed, or because it is a link that
            leaves the tree.
    """

    files: list[Path] = field(default_factory=list)
    others: int = 0
    problems: list[str] = field(default_factory=list)


def is_picture(path: Path, suffixes: Collection[str] = SUFFIXES) -> bool:
    """Whether a file has the name of a picture: a known suffix and no leading dot (macOS leaves ``._a.png``).

    Examples:
        >>> is_picture(Path("a.PNG")), is_picture(Path("._a.png")), is_picture(Path("a.txt"))
        (True, False, False)
    """
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def scan_tree(
    root: Path, suffixes: Collection[str] = SUFFIXES, left_out: Collection[FileKey | None] = ()
) -> PictureTree:
    """Find the pictures below a folder; each folder of the tree is visited once, and none outside of it.

    A folder with the name of a picture counts as a file if no picture lies below it.

    Args:
        root: Folder, or a link to one.
        suffixes: Suffixes of pictures, in lower case.
        left_out: Folders that are not visited, as results of :func:`file_key`.

    Raises:
        OSError: ``root`` itself cannot be listed.

    Examples:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("b.png", "a.jpg", "notes.txt"):
        ...     (root / name).touch()
        >>> tree = scan_tree(root)
        >>> [file.name for file in tree.files], tree.others
        (['a.jpg', 'b.png'], 1)
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
    """Identity of a file or folder, equal for all its names; None if it cannot be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    # Some network disks give files no numbers.
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
    """Count a link to a folder, or report it if it leaves the tree; it is not followed in either case.

    The tree is searched without the link, and a folder outside of the tree might never end.
    """
    target = Path(os.path.realpath(path))
    if path.name.startswith(".") or target.is_relative_to(os.path.realpath(root)):
        tree.others += 1
    else:
        tree.problems.append(f"{path}: this link leads to {target}, outside of {root}, and is not followed")
