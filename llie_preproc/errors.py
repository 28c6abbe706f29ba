"""Exceptions that callers may want to catch apart from ``ValueError``."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from .checks import printable

_PROJECT = "llie-preproc"
# Packages that are installed under another name than they are imported under. PyYAML comes with MMEngine.
_DISTRIBUTIONS = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmdet": "onedl-mmdetection",
    "yaml": "onedl-mmengine",
    "skimage": "scikit-image",
}


class ImageError(ValueError):
    """A picture cannot be read, written or enhanced; the message names the file and the field."""


class ImageSizeError(ImageError):
    """A picture declares more pixels than are allowed, or its file holds more bytes than its pixels can take."""


class ImageMemoryError(ImageError):
    """Memory does not suffice to read, enhance or write a picture."""


class CheckpointError(ValueError):
    """A checkpoint is unsafe, damaged, or not of the network that it is loaded into."""


class MissingWeightsError(CheckpointError):
    """No weights are shipped for a network that has parameters, and random ones were not asked for.

    Args:
        network: Name of the network, with its arguments where weights are shipped for others.
        option: Option of a command that names weights; None: the argument ``checkpoint``, which may be None.
    """

    def __init__(self, network: str, option: str | None = None) -> None:
        self.network = network
        random = "" if option else ", or start with random ones by checkpoint=None"
        super().__init__(
            f"{network} has no shipped weights: name some with {option or 'checkpoint'}{random}. 'llie convert' makes "
            "a file of public ones, 'llie train' trains some: see docs/enhancers.md and docs/training.md"
        )


@contextlib.contextmanager
def weights_named_by(option: str) -> Iterator[None]:
    """Inside, what is raised where weights are missing names the ``option`` of a command that names some."""
    try:
        yield
    except MissingWeightsError as error:
        raise MissingWeightsError(error.network, option) from None


class ExportError(ValueError):
    """An enhancer cannot be exported, or what was exported does not compute the same."""


class MissingExtraError(ImportError):
    """An optional package is absent; the message gives the ``pip install`` line that brings it.

    Where this project runs without being installed, that line names the package itself: there are no extras then.
    """

    def __init__(self, module: str, purpose: str, extra: str | None = None) -> None:
        top = module.split(".")[0]
        distribution = _distribution(top)
        self.purpose, self.extra = purpose, extra or _extras().get(distribution) or None
        cure = f'"{_PROJECT}[{self.extra}]"' if self.extra and _extras() else distribution
        super().__init__(f"{purpose} needs the package {top!r}, which is not installed: pip install {cure}", name=top)


@functools.cache
def _extras() -> Mapping[str, str]:
    """The first extra that brings a distribution, by the distribution's name; of what is always there, ``''``.

    They are the requirements of the installed project, which come from its ``pyproject.toml``; none without them.
    """
    found = {_PROJECT: ""}
    try:
        requirements = requires(_PROJECT) or []
    except PackageNotFoundError:
        return {}
    for requirement in requirements:
        # Such as 'onnx<2,>=1.16; extra == "onnx"'.
        if match := re.match(r"""([\w.-]+)[^;]*(?:;.*\bextra == ["']([\w-]+)["'])?""", requirement):
            found.setdefault(match[1], match[2] or "")
    return found


def _distribution(top: str) -> str:
    """The name under which a top-level module is installed."""
    return _DISTRIBUTIONS.get(top, top.replace("_", "-"))


def _is_optional(top: str) -> bool:
    """Whether an extra brings a module; where nothing is known of the extras, whether it is a package of others."""
    return bool(_extras().get(_distribution(top))) if _extras() else bool(top) and find_spec(top) is None


def require(module: str, purpose: str, extra: str | None = None) -> None:
    """Raise :class:`MissingExtraError` unless the top-level ``module`` is installed; ``extra``: of several the one."""
    if find_spec(module) is None:
        raise MissingExtraError(module, purpose, extra)


@contextlib.contextmanager
def needs(purpose: str, extra: str | None = None) -> Iterator[None]:
    """Inside, an optional package that cannot be found is reported with the ``pip install`` line that brings it.

    >>> with needs("this example", "mm"):
    ...     raise ModuleNotFoundError("No module named 'mmdet'", name="mmdet")
    Traceback (most recent call last):
    llie_preproc.errors.MissingExtraError: this example needs the package 'mmdet', which is not installed: ...

    Args:
        purpose: Name of what imports the package.
        extra: Name of the extra, of several that bring the package; None: the first one of ``pyproject.toml``.

    Raises:
        MissingExtraError: An optional package is not installed. Other modules that are missing are left as they are.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        top = (error.name or "").split(".")[0]
        if not _is_optional(top):
            raise
        raise MissingExtraError(top, purpose, extra) from error


class Extras:
    """The extras that a command needs to run; its help is shown without them.

    A command's module imports inside ``with NEEDS:`` what they bring. Where a package is missing there, the module goes
    on without the names, and ``run``, which would need them, is not called.

    Args:
        names: Names of the extras, with commas between them.
    """

    def __init__(self, names: str) -> None:
        self._names = names
        self._missing: str | None = None

    def __enter__(self) -> None:
        """Begin to import."""

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> bool:
        """Remember a package that cannot be found."""
        top = (getattr(error, "name", None) or "").split(".")[0]
        if not isinstance(error, ModuleNotFoundError | MissingExtraError) or not _is_optional(top):
            return False
        self._missing = top
        return True

    def all_with(self, extra: str | None) -> str:
        """The names, and one more that is needed besides."""
        return ",".join(dict.fromkeys(name for name in (*self._names.split(","), extra) if name))

    def check(self, purpose: str) -> None:
        """Raise :class:`MissingExtraError`, which names all the extras, where a package was missing.

        Args:
            purpose: Name of what needs it.
        """
        if self._missing:
            raise MissingExtraError(self._missing, purpose, self._names)


def one_line(error: BaseException) -> str:
    """The message of an error in one line, with escapes for what else a name out of a file may do to a terminal.

    >>> one_line(ValueError("no picture 'a\\nb'"))
    "no picture 'a b'"
    >>> one_line(FileNotFoundError(2, "No such file or directory", "a.json"))
    'a.json: no such file or folder'
    """
    line = " ".join(part.strip() for part in _message(error).splitlines() if part.strip())
    return printable(line)


def why_failed(name: object, error: BaseException) -> str:
    """Why one of several files failed: the first line of the message, which does not begin with the file's name again.

    >>> why_failed("a.png", FileNotFoundError(2, "No such file or directory", "a.png"))
    'no such file or folder'
    """
    text = _message(error).removeprefix(f"{name}: ")
    # Of the system's errors the file's name may have lines.
    lines = [text] if isinstance(error, OSError) else [line for line in text.splitlines() if line.strip()]
    return printable(lines[0]) if lines else type(error).__name__


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return _of_system(error, str(error.strerror))
    # The text of a KeyError is the repr of its message.
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def _of_system(error: OSError, said: str) -> str:
    """What the system says of a file, in the words of this project's own messages."""
    given = [name for name in (error.filename, error.filename2) if name is not None]
    texts = [os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(name) for name in given]
    names = [text for text in texts if text.strip()]
    if isinstance(error, FileExistsError) and names:
        said = f"a {'folder' if os.path.isdir(names[-1]) else 'file'} has this name"  # noqa: PTH112
    elif error.errno is not None and said == os.strerror(error.errno):
        said = said[:1].lower() + said[1:].replace("directory", "folder")
    return f"{' -> '.join(names)}: {said}" if names else said
