"""The layouts of known sets: one function for each says where the files lie."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from llie_preproc.checks import one_of
from llie_preproc.pictures import is_picture, picture_files

from .base import Layout

Folder = str | os.PathLike[str]
T = TypeVar("T")

_EXPOSURE = re.compile(r"(?P<scene>.+)_(?P<ev>N1\.5|N1|0|P1|P1\.5)")
_UNDER, _OVER = ("N1.5", "N1"), ("0", "P1", "P1.5")
_SCENE_AND_EV = re.compile(r"(?P<scene>.+?)-(?P<ev>\d+(\.\d+)?)")


def lol_v1(root: Folder, split: str) -> Layout:
    """``our485|eval15/{low,high}`` as released, or ``Train|Test/{input,target}`` as Retinexformer packs it."""
    official, packed = _one_of("split", split, {"train": ("our485", "Train"), "test": ("eval15", "Test")})
    low, high = find_folders(root, [(f"{official}/low", f"{official}/high"), (f"{packed}/input", f"{packed}/target")])
    return mirrored(low, high)


def lol_v2(root: Folder, subset: str, split: str) -> Layout:
    """``{Real_captured,Synthetic}/{Train,Test}/{Low,Normal}`` with equal names, or ``low...`` and ``normal...``."""
    captured = _one_of("subset", subset, {"real": "Real_captured", "synthetic": "Synthetic"})
    part = f"{captured}/{_one_of('split', split, {'train': 'Train', 'test': 'Test'})}"
    low, high = find_folders(root, [(f"{part}/Low", f"{part}/Normal")])

    def target(path: Path) -> Path:
        same = high / path.name
        return same if same.is_file() else high / re.sub("^low", "normal", path.name)

    return Layout(low, picture_files(low), lambda path: {"target": target(path)}, picture_files(high))


def lsrw(root: Folder, split: str, camera: str) -> Layout:
    """``{Training data,Eval}/{Huawei,Nikon}/{low,high}``."""
    part = _one_of("split", split, {"train": "Training data", "test": "Eval"})
    cameras = _one_of("camera", camera, {"both": ["Huawei", "Nikon"], "huawei": ["Huawei"], "nikon": ["Nikon"]})
    folders = [find_folders(root, [(f"{part}/{name}/low", f"{part}/{name}/high")]) for name in cameras]
    parts = [mirrored(low, high) for low, high in folders]
    return Layout(
        _root(root) / part,
        [path for layout in parts for path in layout.inputs],
        lambda path: {"target": path.parent.parent / "high" / path.name},
        [path for layout in parts for path in layout.references],
    )


def sice(root: Folder, part: int, exposures: str) -> Layout:
    """``Dataset_Part{1,2}``: a folder of exposures for each sequence, 1 the darkest, and ``Label/<sequence>.JPG``."""
    name = _one_of("part", part, {1: "Dataset_Part1", 2: "Dataset_Part2"})
    # If the number of exposures is odd, the middle one belongs to neither half.
    halves: dict[Path, str] = {}
    kept: dict[str, Callable[[Path], bool]] = {
        "all": lambda path: True,
        "under": lambda path: halves.get(path) == "under",
        "over": lambda path: halves.get(path) == "over",
    }
    keep = _one_of("exposures", exposures, kept)
    base, labels = find_folders(root, [(name, f"{name}/Label")])
    inputs = sorted((p for p in picture_files(base) if p.parent != labels), key=_natural)
    of_sequence = by_stem(labels)
    sequences: dict[Path, list[Path]] = {}
    for path in inputs:
        sequences.setdefault(path.parent, []).append(path)
    for sequence in sequences.values():
        half = len(sequence) // 2
        halves |= dict.fromkeys(sequence[:half], "under") | dict.fromkeys(sequence[len(sequence) - half :], "over")
    return Layout(
        base,
        inputs,
        lambda path: {"target": of_sequence(path.parent.name)},
        picture_files(labels),
        keep=keep,
    )


def exposure_errors(root: Folder, split: str, expert: str, exposures: str | Sequence[str]) -> Layout:
    """``{training,validation,testing}/INPUT_IMAGES`` and ``GT_IMAGES``; for tests ``expert_{a..e}_testing_set``."""
    names = {"train": ("training", "train"), "val": ("validation", "val"), "test": ("testing", "test")}
    _one_of("expert", expert, dict.fromkeys("abcde"))
    chosen = _chosen_exposures(exposures)
    targets = f"expert_{expert}_testing_set" if split == "test" else "GT_IMAGES"
    candidates = [(f"{name}/INPUT_IMAGES", f"{name}/{targets}") for name in _one_of("split", split, names)]
    low, high = find_folders(root, candidates)
    of_scene = by_stem(high)
    return Layout(
        low,
        picture_files(low),
        lambda path: {"target": of_scene(_matched(_EXPOSURE, path, "_N1.5, _N1, _0, _P1 or _P1.5")["scene"])},
        picture_files(high),
        keep=lambda path: _matched(_EXPOSURE, path, "")["ev"] in chosen,
    )


def rellisur(root: Folder, split: str, scale: int, target_x1: bool) -> Layout:
    """``{Train,Val,Test}/LLLR``, and ``NLHR-Duplicates/X{1,2,4}`` with equal names or ``NLHR/X{1,2,4}`` by scene."""
    part = _one_of("split", split, {"train": "Train", "val": "Val", "test": "Test"})
    _one_of("scale", scale, dict.fromkeys((1, 2, 4)))
    folder_of = {"target_x1": "X1", "target": f"X{scale}"} if target_x1 else {"target": f"X{scale}"}
    low, *folders = find_folders(
        root,
        [
            (f"{part}/LLLR", *(f"{part}/{kind}/{name}" for name in folder_of.values()))
            for kind in ("NLHR-Duplicates", "NLHR")
        ],
    )
    repeated = folders[0].parent.name == "NLHR-Duplicates"
    fields = {field: by_stem(folder) for field, folder in zip(folder_of, folders, strict=True)}

    def references(path: Path) -> dict[str, Path]:
        scene = _matched(_SCENE_AND_EV, path, "a scene and an exposure value, like 00266-3.0")["scene"]
        return {field: find(path.stem if repeated else scene) for field, find in fields.items()}

    used = sorted({path for folder in folders for path in picture_files(folder)})
    return Layout(low, picture_files(low), references, used, {"target": scale})


def vis_drone(root: Folder, split: str, folder: str) -> Path:
    """``VisDrone2019-DET-<split>/<folder>``, or ``<split>/<folder>``."""
    found = find_folders(root, [(f"VisDrone2019-DET-{split}/{folder}",), (f"{split}/{folder}",)])
    return found[0]


def mirrored(low: Path, high: Path) -> Layout:
    """The layout of two folders with the same names; each picture has its pair."""
    return Layout(low, picture_files(low), lambda path: {"target": high / path.relative_to(low)}, picture_files(high))


def find_folders(root: Folder, candidates: Iterable[Sequence[str]]) -> tuple[Path, ...]:
    """The first of the candidates whose folders all exist below ``root``.

    Raises:
        FileNotFoundError: There is no such candidate; the message names all folders that were looked for.
    """
    base = _root(root)
    options = [tuple(base / name for name in names) for names in candidates]
    for folders in options:
        if all(folder.is_dir() for folder in folders):
            return folders
    wanted = ", or ".join(" and ".join(dict.fromkeys(map(str, folders))) for folders in options)
    raise FileNotFoundError(f"{base} does not have the expected layout: it needs the folders {wanted}")


def by_stem(folder: Path) -> Callable[[str], Path]:
    """A function that finds a picture of a folder by its name without suffix, whatever the suffix and its case.

    Raises:
        ValueError: The names of two pictures differ only in the suffix.
    """
    found: dict[str, Path] = {}
    for path in sorted(filter(is_picture, folder.iterdir())):
        if path.stem in found:
            raise ValueError(
                f"{found[path.stem]} and {path} have the same name except for the suffix: remove one of them"
            )
        found[path.stem] = path
    return lambda stem: found.get(stem, folder / f"{stem}.*")


def _root(root: Folder) -> Path:
    return Path(root).expanduser()


def _one_of(name: str, value: Any, choices: Mapping[Any, T]) -> T:
    one_of(name, value, choices)
    return choices[value]


def _matched(pattern: re.Pattern[str], path: Path, expected: str) -> re.Match[str]:
    match = pattern.fullmatch(path.stem)
    if match is None:
        raise ValueError(f"{path}: the name must end in {expected}")
    return match


def _chosen_exposures(exposures: str | Sequence[str]) -> Collection[str]:
    if isinstance(exposures, str):
        return _one_of("exposures", exposures, {"all": _UNDER + _OVER, "under": _UNDER, "over": _OVER})
    if unknown := [e for e in exposures if e not in _UNDER + _OVER]:
        raise ValueError(f"exposures must be a list of {', '.join(_UNDER + _OVER)}, got {unknown[0]!r}")
    return exposures


def _natural(path: Path) -> list[tuple[int, str]]:
    """A sorting key that orders the numbers in names by value."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]
