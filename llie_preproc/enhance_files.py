"""Enhancing picture files: the plan of which file is written where, and the work itself, in bounded memory."""

from __future__ import annotations

import os
import unicodedata
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np

from .checks import at_least
from .enhancers.base import Enhancer
from .errors import ImageError, ImageMemoryError, ImageSizeError, why_failed
from .files import DISK_IS_FULL, remove_leftovers
from .inference import FrozenEnhancer
from .inference_options import InferenceOptions, OptionKeywords, shows_options
from .out_of_memory import free_memory, is_out_of_memory
from .picture_tree import FileKey, PictureTree, file_key, scan_tree
from .pictures import MAX_PIXELS, SUFFIXES, Picture, picture_size, read_picture, write_picture
from .work_sharing import Ranks, alone

if TYPE_CHECKING:
    from typing_extensions import Unpack

MAX_BATCH_PIXELS = 1 << 24
"""Largest number of input pixels that run together, 16.8 million; a larger picture runs alone."""

MAX_WHOLE_PIXELS = 1 << 26
"""Default limit of a picture's pixels if a network enhances the picture as a whole: 67 million.

A network takes 300 bytes (PSENet) to 4 KB (SemiLLIE) for each pixel, which is 20 to 270 GB at this limit. If a process
takes more memory than there is, Linux may kill it, and the process cannot prevent that. With tiles or a small map, the
limit is :data:`~llie_preproc.pictures.MAX_PIXELS`.
"""

# Number of pixels of the next pictures that are read ahead.
_AHEAD_PIXELS = 4 * MAX_BATCH_PIXELS
# Decoding and encoding release Python's lock; with more threads than this, they wait for each other or for the disk.
_THREADS = min(8, os.cpu_count() or 1)

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One file to read and the file to write."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Plan:
    """The work of one call.

    Attributes:
        jobs: Jobs that are to be done.
        kept: Jobs whose results exist already and are kept.
        ignored: Number of files in the tree that are not pictures.
        problems: Sentence for each folder of the tree that was left out.

    Examples:
        >>> Plan(jobs=[], kept=[Job(Path("night/a.png"), Path("day/a.png"))]).skipped
        1
    """

    jobs: list[Job]
    kept: list[Job] = field(default_factory=list)
    ignored: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """Number of results that exist already and are kept."""
        return len(self.kept)

    def remove_leftovers(self) -> int:
        """Remove unfinished files of killed processes, by :func:`~llie_preproc.files.remove_leftovers`."""
        return remove_leftovers(job.target for job in (*self.jobs, *self.kept))


def plan_jobs(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    format: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    suffixes: Collection[str] = SUFFIXES,
) -> Plan:
    """Decide which file is written where, before anything is written.

    Args:
        src: File, or a folder whose tree is mirrored. Hidden files are left out, and so is ``dst`` if it lies inside.
            Links to folders are not followed (:func:`~llie_preproc.picture_tree.scan_tree`).
        dst: Folder for the results of a folder. For the result of a file: a file, or a folder that exists or whose name
            ends in a separator.
        format: Suffix of the results without its dot; by default that of each source.
        resume: Whether results that exist are kept, and only the others are made.
        overwrite: Whether results that exist are replaced.
        suffixes: Suffixes of the files that are read from a tree, and of results.

    Raises:
        FileNotFoundError: ``src`` does not exist.
        PermissionError: ``src`` cannot be listed, or nothing can be written to ``dst``.
        ValueError: A result would replace an input, two inputs have the same result, a result exists (without
            ``resume`` or ``overwrite``), or its suffix is not among ``suffixes``.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "night").mkdir()
        >>> (folder / "night" / "a.jpg").touch()
        >>> plan = plan_jobs(folder / "night", folder / "day", format="png")
        >>> [job.target.relative_to(folder).as_posix() for job in plan.jobs]
        ['day/a.png']
    """
    source = Path(src)
    if not source.exists():
        raise FileNotFoundError(f"{src}: no such file or folder")
    if source.is_dir():
        tree = _scan(source, Path(dst), suffixes)
        targets = [_with_format(Path(dst) / file.relative_to(source), format) for file in tree.files]
    else:
        tree = PictureTree([source])
        targets = [_target_of_file(source, os.fspath(dst), format)]
    jobs = [Job(*pair) for pair in zip(tree.files, targets, strict=True)]
    check_targets(jobs, suffixes)
    done = {job for job in jobs if os.path.lexists(job.target)}
    if done and not (resume or overwrite):
        raise ValueError(f"{_first(done)} exists already: --resume keeps such results, --overwrite replaces them")
    kept = [job for job in jobs if resume and job in done]
    todo = [job for job in jobs if not (resume and job in done)]
    if todo:
        _require_writable(Path(dst))
    return Plan(todo, kept, tree.others, tree.problems)


def check_targets(jobs: Sequence[Job], suffixes: Collection[str]) -> None:
    """Raise ``ValueError`` if a target is an input, is shared, is a folder, or has none of ``suffixes``."""
    inputs = {file_key(job.source) for job in jobs} - {None}
    owners: dict[str, Path] = {}
    for job in jobs:
        if job.target.suffix.lower() not in suffixes:
            known = ", ".join(sorted(suffixes))
            raise ValueError(f"{job.target}: cannot write the suffix {job.target.suffix!r}; use one of {known}")
        # Path.is_dir would raise for a name that is too long; such names are reported when they are written.
        if os.path.isdir(job.target) and not os.path.isdir(job.source):  # noqa: PTH112
            raise ValueError(f"{job.target} is a folder, but the result of {job.source} would be written there")
        if file_key(job.target) in inputs:
            raise ValueError(f"{job.target} is an input, and inputs are never overwritten: choose another place")
        _own(owners, os.path.realpath(job.target), job)
    _require_distinct_letters(jobs)


def _own(owners: dict[str, Path], target: str, job: Job) -> None:
    owner = owners.setdefault(target, job.source)
    if owner != job.source:
        raise ValueError(f"{owner} and {job.source} would both become {job.target}: rename one of them")


def _require_distinct_letters(jobs: Sequence[Job]) -> None:
    """Raise if targets differ only in the case or encoding of letters, and their disk does not distinguish them."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(unicodedata.normalize("NFC", os.fspath(job.target)).casefold(), []).append(job)
    for group in groups.values():
        if len(group) > 1 and not tells_letters(_existing(group[0].target.parent)):
            owners: dict[str, Path] = {}
            for job in group:
                _own(owners, "", job)


def tells_letters(folder: Path) -> bool:
    """Whether names that differ in case stand for different files on a folder's disk; this is tried with a file."""
    with NamedTemporaryFile(prefix=".llie-", dir=folder) as file:
        path = Path(file.name)
        return not path.with_name(path.name.upper()).exists()


def _require_writable(target: Path) -> None:
    for above in target.absolute().parents:
        if os.path.lexists(above) and not above.is_dir():
            raise NotADirectoryError(f"{above} is not a folder, but results would be written below it")
    folder = _existing(target)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(f"{folder}: nothing can be written here; choose another place")


def _existing(path: Path) -> Path:
    """The folder itself or, if it does not exist, the nearest one above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


@shows_options()
def enhance_files(
    jobs: Sequence[Job],
    enhancer: Enhancer,
    *,
    ignore_orientation: bool = False,
    max_pixels: int | None = None,
    ranks: Ranks | None = None,
    **options: Unpack[OptionKeywords],
) -> Iterator[tuple[Job, str | None]]:
    """Enhance picture files; pictures of equal size run together, as many as ``batch_size`` and memory allow.

    The batches, and so the results, depend only on the files, and not on the number of processes that share the work.
    If there is not enough memory for a batch, its pictures run one at a time; a picture that does not fit alone fails.

    The results keep depth, greyness, alpha channel (resized if the enhancer enlarges), EXIF and colour profile as far
    as the format of the target holds them. Each result appears whole or not at all.

    Args:
        jobs: Files to read and to write, from :func:`plan_jobs`.
        enhancer: Network on the device that it is to run on.
        ignore_orientation: Whether pictures stay as stored, as for :func:`llie_preproc.pictures.read_picture`.
        max_pixels: Limit of a picture's width times height; by default :data:`MAX_WHOLE_PIXELS`, or
            :data:`~llie_preproc.pictures.MAX_PIXELS` with ``tile`` or ``map_side``.
        ranks: Processes that share the jobs; each is given the whole list. By default this process does all jobs.
        **options: Fields of :class:`~llie_preproc.InferenceOptions`; ``channel_order`` has no effect on files.

    Returns:
        An iterator that yields each job of this process when it is done or has failed, with None or the reason. It
        raises ``OSError`` if the disk of the results is full or read-only, after the job that found this, because every
        further picture would be enhanced in vain.

    Raises:
        ValueError: An option has an unknown value, or one that the enhancer cannot run with.

    Examples:
        >>> import tempfile
        >>> from llie_preproc import build_enhancer
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = cv2.imwrite(str(folder / "a.png"), np.full((8, 8, 3), 20, np.uint8))
        >>> plan = plan_jobs(folder / "a.png", folder / "b.png")
        >>> [(job.target.name, reason) for job, reason in enhance_files(plan.jobs, build_enhancer("clahe"))]
        [('b.png', None)]
    """
    frozen = FrozenEnhancer(enhancer, replace(InferenceOptions.of(options), channel_order="rgb"))
    if max_pixels is None:
        whole = frozen.options.tile is None and frozen.options.map_side is None
        max_pixels = MAX_WHOLE_PIXELS if whole else MAX_PIXELS
    at_least("max_pixels", max_pixels, 1)
    read = partial(_attempt, read_picture, ignore_orientation=ignore_orientation, max_pixels=max_pixels)
    return _finished(jobs, frozen, read, frozen.options.batch_size, ranks)


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
            loaded = [(job, _again_alone(read, found, job.source)) for job, found in batch]
            yield from ((job, _reason(job, error)) for job, error in loaded if isinstance(error, Exception))
            yield from _finish([(job, picture) for job, picture in loaded if isinstance(picture, Picture)], run, pool)


Loaded = tuple[Job, Picture]


@dataclass(frozen=True)
class _Batch:
    """Pictures that run together, and the number of their pixels according to their headers."""

    jobs: list[Job]
    pixels: int = 0


def _batches(jobs: Iterable[Job], batch_size: int, pool: ThreadPoolExecutor) -> Iterator[_Batch]:
    """Yield batches of pictures of one size. Headers tell the sizes, so that all processes find the same batches."""
    groups: dict[tuple[int, int], list[Job]] = {}
    sizes = partial(_attempt, picture_size)
    for ((job, size),) in _read_ahead((_Batch([job]) for job in jobs), sizes, pool):
        if isinstance(size, Exception):
            # The problem is reported when the picture is read.
            yield _Batch([job])
            continue
        group = groups.setdefault(size, [])
        group.append(job)
        if len(group) >= min(batch_size, MAX_BATCH_PIXELS // max(1, size[0] * size[1])):
            yield _Batch(groups.pop(size), len(group) * size[0] * size[1])
    for (width, height), group in groups.items():
        yield _Batch(group, len(group) * width * height)


def _read_ahead(
    batches: Iterable[_Batch], read: Callable[[Path], T | Exception], pool: ThreadPoolExecutor
) -> Iterator[list[tuple[Job, T | Exception]]]:
    """Yield the results of ``read`` for the sources of each batch, while the next batches are being read."""
    waiting: deque[tuple[_Batch, list[tuple[Job, Future[T | Exception]]]]] = deque()
    for batch in batches:
        # The first batches are yielded before the next one is started, because together they may not fit into memory.
        while waiting and _is_enough([*(each for each, _ in waiting), batch]):
            yield [(job, future.result()) for job, future in waiting.popleft()[1]]
        waiting.append((batch, [(job, pool.submit(read, job.source)) for job in batch.jobs]))
    while waiting:
        yield [(job, future.result()) for job, future in waiting.popleft()[1]]


def _is_enough(batches: Sequence[_Batch]) -> bool:
    """Whether the last of the batches must wait until the first one is done."""
    behind = batches[1:]
    return sum(len(each.jobs) for each in behind) > _THREADS or sum(each.pixels for each in behind) > _AHEAD_PIXELS


def _finish(group: list[Loaded], run: Callable, pool: ThreadPoolExecutor) -> Iterator[tuple[Job, str | None]]:
    results = _enhance_group([picture for _, picture in group], run)
    jobs = [job for job, _ in group]
    full = None
    # The jobs are yielded one by one, so that after an interrupt only those being written are missing in the count.
    for job, result, outcome in zip(jobs, results, pool.map(_write, jobs, results), strict=True):
        error = outcome if isinstance(result, Exception) else _again_alone(partial(_write, job), outcome, result)
        yield job, None if error is None else _reason(job, error)
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            full = error
    if full is not None:
        raise full


def _enhance_group(pictures: list[Picture], run: Callable) -> list[Picture | Exception]:
    """Enhance pictures of one size together or, if that fails, each alone, so that only the bad ones fail."""
    if not pictures:
        return []
    enhanced = _attempt(run, [picture.pixels for picture in pictures])
    if not isinstance(enhanced, Exception):
        return [_attempt(_with_pixels, *pair) for pair in zip(pictures, enhanced, strict=True)]
    if isinstance(enhanced, ImageMemoryError):
        free_memory()
    if len(pictures) == 1:
        return [enhanced]
    return [result for picture in pictures for result in _enhance_group([picture], run)]


def _with_pixels(picture: Picture, pixels: np.ndarray) -> Picture:
    if picture.alpha is None or picture.alpha.shape == pixels.shape[:2]:
        return replace(picture, pixels=pixels)
    # The interpolation is linear, because a cubic one would overshoot at the edge of a mask.
    alpha = cv2.resize(picture.alpha, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return replace(picture, pixels=pixels, alpha=alpha)


def _write(job: Job, picture: Picture | Exception) -> Exception | None:
    if isinstance(picture, Exception):
        return picture
    return _attempt(write_picture, job.target, picture)


def _attempt(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Return the result, or the exception that says what is wrong with the file."""
    try:
        return function(*args, **kwargs)
    except (ImageError, OSError) as error:
        failure: Exception = error
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        failure = ImageMemoryError("memory does not suffice for this picture")
    # The cause and the traceback would keep the objects of the failed call in memory.
    failure.__cause__ = failure.__context__ = None
    return failure.with_traceback(None)


def _again_alone(attempt: Callable[[T], Any], outcome: Any, subject: T) -> Any:
    """Repeat an attempt that failed for lack of memory while other pictures were being read or written."""
    if not isinstance(outcome, ImageMemoryError):
        return outcome
    free_memory()
    return attempt(subject)


def _reason(job: Job, error: Exception) -> str:
    return why_failed(job.source, error) + _advice(error)


def _advice(error: Exception) -> str:
    if isinstance(error, ImageMemoryError):
        return "; --tile N takes only the memory of a tile, and --max-pixels N leaves out such pictures"
    if isinstance(error, ImageSizeError):
        return f"; --max-pixels N sets the limit; --tile N takes only a tile's memory, and allows {MAX_PIXELS} pixels"
    return ""


def _scan(source: Path, target: Path, suffixes: Collection[str]) -> PictureTree:
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file, but {source} is a folder: name a folder for the results")
    left_out: set[FileKey | None] = {file_key(target)} - {None}
    if file_key(source) in left_out:
        raise ValueError(f"{target} is {source} itself, and inputs are never overwritten: choose another place")
    return scan_tree(source, suffixes, left_out)


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
