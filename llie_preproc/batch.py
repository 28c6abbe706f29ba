"""Enhancing picture files: which file goes where, and the work itself, in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from .enhancers.base import Enhancer
from .errors import ImageError
from .inference import check_inference_options, enhance
from .pictures import SUFFIXES, Picture, picture_size, read_picture, write_picture
from .ranks import Ranks, alone

MAX_BATCH_PIXELS = 1 << 24
"""Input pixels that run together at most: 16.8 million; a larger picture runs alone."""

# Decoding and encoding release Python's lock; more threads than this wait for each other or for the disk.
_THREADS = min(8, os.cpu_count() or 1)

T = TypeVar("T")
# Device and inode; None for a file that does not exist.
FileKey = tuple[int, int] | None


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Plan:
    """The work of one call.

    Attributes:
        jobs: What is to do.
        skipped: Number of results that exist already and are kept.
        ignored: Number of files in the tree that are no pictures.
    """

    jobs: list[Job]
    skipped: int = 0
    ignored: int = 0


def plan_jobs(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    format: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    suffixes: Collection[str] = SUFFIXES,
) -> Plan:
    """Decide which file becomes which, before anything is written.

    Args:
        src: A file, or a folder whose tree is mirrored. Hidden files, and ``dst`` where it lies inside, are left out.
        dst: For a file: a file, or a folder (one that exists, or a name that ends in a separator). For a folder: a
            folder.
        format: Suffix of the results, without its dot; by default that of each source.
        resume: Keep results that exist, and do the others.
        overwrite: Write results that exist anew.
        suffixes: Of the files to take from a tree, and of results.

    Raises:
        FileNotFoundError: ``src`` does not exist.
        ValueError: A result would replace an input, two inputs have one result, a result exists (without ``resume``
            or ``overwrite``), or its suffix is not among ``suffixes``.
    """
    source = Path(src)
    if not source.exists():
        raise FileNotFoundError(f"{src}: no such file or folder")
    if source.is_dir():
        files, ignored = _scan(source, Path(dst), suffixes)
        targets = [_with_format(Path(dst) / file.relative_to(source), format) for file in files]
    else:
        files, ignored, targets = [source], 0, [_target_of_file(source, os.fspath(dst), format)]
    jobs = [Job(*pair) for pair in zip(files, targets, strict=True)]
    check_targets(jobs, suffixes)
    done = {job for job in jobs if os.path.lexists(job.target)}
    if done and not (resume or overwrite):
        raise ValueError(f"{_first(done)} exists already: --resume keeps such results, --overwrite replaces them")
    if resume:
        return Plan([job for job in jobs if job not in done], len(done), ignored)
    return Plan(jobs, 0, ignored)


def check_targets(jobs: Sequence[Job], suffixes: Collection[str]) -> None:
    """Raise ``ValueError`` where a target is an input, is shared, is a folder, or has none of ``suffixes``."""
    inputs = {_key(job.source) for job in jobs}
    owners: dict[Path, Path] = {}
    for job in jobs:
        if job.target.suffix.lower() not in suffixes:
            known = ", ".join(sorted(suffixes))
            raise ValueError(f"{job.target}: cannot write the suffix {job.target.suffix!r}; one of {known}")
        if job.target.is_dir():
            raise ValueError(f"{job.target} is a folder, where the result of {job.source} would go")
        if job.target.exists() and _key(job.target) in inputs:
            raise ValueError(f"{job.target} is an input, and inputs are never overwritten: name another DST")
        owner = owners.setdefault(Path(os.path.realpath(job.target)), job.source)
        if owner != job.source:
            raise ValueError(f"{owner} and {job.source} would both become {job.target}: rename one of them")


def enhance_files(
    jobs: Sequence[Job],
    enhancer: Enhancer,
    *,
    batch_size: int = 8,
    precision: str = "float32",
    tile: int | None = None,
    map_side: int | None = None,
    ignore_orientation: bool = False,
    ranks: Ranks | None = None,
) -> Iterator[tuple[Job, str | None]]:
    """Enhance picture files; pictures of equal size run together, as many as ``batch_size`` and memory allow.

    Which ones run together depends on the files alone, not on how many share the work: neither do the results.

    The results keep depth, greyness, alpha channel (resized where the enhancer enlarges), EXIF and colour profile as
    far as the format of the target holds them. Each appears whole or not at all.

    Args:
        jobs: What to read and to write, from :func:`plan_jobs`.
        enhancer: The network, on the device where it shall run.
        batch_size, precision, tile, map_side: As for :func:`llie_preproc.enhance`.
        ignore_orientation: As for :func:`llie_preproc.pictures.read_picture`.
        ranks: Who share the jobs, all with the same ones; None: this process alone.

    Returns:
        An iterator of each job of this rank when it is done or has failed, with None or the reason.

    Raises:
        ValueError: An option that is none of its values, or that the enhancer cannot run with.
    """
    options: dict[str, Any] = dict(batch_size=batch_size, precision=precision, tile=tile, map_side=map_side)
    check_inference_options(enhancer, **options)
    read = partial(_attempt, read_picture, ignore_orientation=ignore_orientation)
    return _finished(jobs, partial(enhance, enhancer=enhancer, **options), read, batch_size, ranks)


def _finished(
    jobs: Sequence[Job],
    run: Callable[..., Any],
    read: Callable[[Path], Any],
    batch_size: int,
    ranks: Ranks | None,
) -> Iterator[tuple[Job, str | None]]:
    with ThreadPoolExecutor(_THREADS) as pool:
        batches = (ranks or alone()).share(_batches(jobs, batch_size, pool))
        for batch in _read_ahead(batches, read, pool):
            yield from ((job, _reason(job, error)) for job, error in batch if isinstance(error, Exception))
            yield from _finish([(job, picture) for job, picture in batch if isinstance(picture, Picture)], run, pool)


Loaded = tuple[Job, Picture]


def _batches(jobs: Iterable[Job], batch_size: int, pool: ThreadPoolExecutor) -> Iterator[list[Job]]:
    """Pictures of one size by their headers, so that all who share the work know all batches."""
    groups: dict[tuple[int, int], list[Job]] = {}
    sizes = partial(_attempt, picture_size)
    for ((job, size),) in _read_ahead(([job] for job in jobs), sizes, pool):
        if isinstance(size, Exception):
            # Reading it says what is wrong.
            yield [job]
            continue
        group = groups.setdefault(size, [])
        group.append(job)
        if len(group) >= min(batch_size, MAX_BATCH_PIXELS // max(1, size[0] * size[1])):
            yield groups.pop(size)
    yield from groups.values()


def _read_ahead(
    batches: Iterable[list[Job]], read: Callable[[Path], T | Exception], pool: ThreadPoolExecutor
) -> Iterator[list[tuple[Job, T | Exception]]]:
    """What ``read`` makes of the sources of each batch, while those of the next ones are on their way."""
    waiting: deque[list[tuple[Job, Future[T | Exception]]]] = deque()
    ahead = 0
    for batch in batches:
        waiting.append([(job, pool.submit(read, job.source)) for job in batch])
        ahead += len(batch)
        while ahead - len(waiting[0]) >= _THREADS:
            ahead -= len(waiting[0])
            yield [(job, future.result()) for job, future in waiting.popleft()]
    for each in waiting:
        yield [(job, future.result()) for job, future in each]


def _finish(group: list[Loaded], run: Callable, pool: ThreadPoolExecutor) -> Iterator[tuple[Job, str | None]]:
    results = _enhance_group([picture for _, picture in group], run)
    jobs = [job for job, _ in group]
    written = pool.map(_write, jobs, results)
    for job, error in zip(jobs, written, strict=True):
        yield job, None if error is None else _reason(job, error)


def _enhance_group(pictures: list[Picture], run: Callable) -> list[Picture | Exception]:
    """Enhance pictures of one size; where that fails, each alone, so that one does not take the others with it."""
    if not pictures:
        return []
    try:
        enhanced = run([picture.pixels for picture in pictures])
    except (ImageError, torch.OutOfMemoryError) as error:
        if len(pictures) == 1:
            return [error]
        return [result for picture in pictures for result in _enhance_group([picture], run)]
    return [_with_pixels(*pair) for pair in zip(pictures, enhanced, strict=True)]


def _with_pixels(picture: Picture, pixels: np.ndarray) -> Picture:
    if picture.alpha is None or picture.alpha.shape == pixels.shape[:2]:
        return replace(picture, pixels=pixels)
    # Linear: a cubic kernel would overshoot at the edge of a mask.
    alpha = cv2.resize(picture.alpha, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return replace(picture, pixels=pixels, alpha=alpha)


def _write(job: Job, picture: Picture | Exception) -> Exception | None:
    if isinstance(picture, Exception):
        return picture
    return _attempt(write_picture, job.target, picture)


def _attempt(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """The result, or the exception that says what is wrong with the file."""
    try:
        return function(*args, **kwargs)
    except (ImageError, OSError) as error:
        return error


def _reason(job: Job, error: Exception) -> str:
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return first_line.removeprefix(f"{job.source}: ")


def _scan(source: Path, target: Path, suffixes: Collection[str]) -> tuple[list[Path], int]:
    """The pictures of a tree, sorted, and the number of other files."""
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, and {source} a folder: name a folder")
    skipped = {_key(target)} if target.exists() else set()
    if _key(source) in skipped:
        raise ValueError(f"{target} is {source} itself, and inputs are never overwritten: name another DST")
    files = list(_walk(source, frozenset(skipped)))
    pictures = [file for file in files if file.suffix.lower() in suffixes and not file.name.startswith(".")]
    return pictures, len(files) - len(pictures)


def _walk(folder: Path, left_out: frozenset[FileKey]) -> Iterator[Path]:
    """The files below ``folder``, through symbolic links too; links back up the tree are not followed."""
    left_out |= {_key(folder)}
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            yield entry
        elif _key(entry) not in left_out:
            yield from _walk(entry, left_out)


def _key(path: Path) -> FileKey:
    """What tells whether two names are of one file."""
    if not path.exists():
        return None
    status = path.stat()
    return status.st_dev, status.st_ino


def _target_of_file(source: Path, dst: str, format: str | None) -> Path:
    if dst.endswith(("/", os.sep)) or Path(dst).is_dir():
        return _with_format(Path(dst) / source.name, format)
    target = Path(dst)
    if format and _with_format(target, format).suffix != target.suffix:
        raise ValueError(f"--format {format} contradicts the suffix of {target}: leave one of them out")
    return target


def _with_format(path: Path, format: str | None) -> Path:
    return path.with_suffix(f".{format}") if format else path


def _first(jobs: Collection[Job]) -> str:
    first = min(job.target for job in jobs)
    return f"{first} (and {len(jobs) - 1} more)" if len(jobs) > 1 else str(first)
