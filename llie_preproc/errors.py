"""The exceptions of this project, the reports of missing optional packages, and the wording of messages."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from .checks import printable

_PROJECT = "llie-preproc"
# A message suggests at most so many names.
_NEAR = 3
# Names under which packages are installed, where they differ from the imported names. PyYAML comes with MMEngine.
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
    """A picture declares more pixels than are allowed, or its file holds more bytes than its pixels need."""


class ImageMemoryError(ImageError):
    """There is not enough memory to read, enhance or write a picture."""


class CheckpointError(ValueError):
    """A checkpoint is unsafe, damaged, or that of another network."""


class MissingWeightsError(CheckpointError):
    """A network with parameters has no shipped weights, and the caller did not ask for random ones.

    Args:
        network: Name of the network, with its arguments if weights are shipped for other arguments.
        option: Option of a command that takes weights. None stands for the argument ``checkpoint``.

    Examples:
        >>> raise MissingWeightsError("CollaBA", "--weights")
        Traceback (most recent call last):
        llie_preproc.errors.MissingWeightsError: CollaBA has no shipped weights: name some with --weights. ...
    """

    def __init__(self, network: str, option: str | None = None) -> None:
        self.network = network
        random = "" if option else ", or start with random ones by checkpoint=None"
        super().__init__(
            f"{network} has no shipped weights: name some with {option or 'checkpoint'}{random}. 'llie convert' "
            "converts public weights, and 'llie train' trains new ones: see docs/enhancers.md and docs/training.md"
        )


@contextlib.contextmanager
def weights_named_by(option: str) -> Iterator[None]:
    """Within the block, let errors about missing weights name the command's ``option`` that takes weights.

    Examples:
        >>> with weights_named_by("--weights"):
        ...     raise MissingWeightsError("CollaBA")
        Traceback (most recent call last):
        llie_preproc.errors.MissingWeightsError: CollaBA has no shipped weights: name some with --weights. ...
    """
    try:
        yield
    except MissingWeightsError as error:
        raise MissingWeightsError(error.network, option) from None


class DivergedError(RuntimeError):
    """A training has diverged: its weights or losses are not finite. A command ends with one line and status 1."""


class ExportError(ValueError):
    """An enhancer cannot be exported, or its exported graph does not compute the same."""


class MissingExtraError(ImportError):
    """An optional package is not installed; the message has the ``pip install`` line that installs it.

    If this project runs without being installed, that line names the package itself, because there are no extras then.

    Args:
        module: Name of the module that was to be imported.
        purpose: Name of what needs the package.
        extra: Name of the extra, if several contain the package; None for the first one in ``pyproject.toml``.
    """

    def __init__(self, module: str, purpose: str, extra: str | None = None) -> None:
        top = module.split(".")[0]
        distribution = _distribution(top)
        self.purpose, self.extra = purpose, extra or _extras().get(distribution) or None
        cure = f'"{_PROJECT}[{self.extra}]"' if self.extra and _extras() else distribution
        super().__init__(f"{purpose} needs the package {top!r}, which is not installed: pip install {cure}", name=top)


@functools.cache
def _extras() -> Mapping[str, str]:
    """The first extra that contains a distribution, by the distribution's name; ``''`` for what is always installed.

    They are read from the requirements of the installed project, which come from its ``pyproject.toml``. The result is
    empty if the project is not installed.
    """
    found = {_PROJECT: ""}
    try:
        requirements = requires(_PROJECT) or []
    except PackageNotFoundError:
        return {}
    for requirement in requirements:
        # A requirement looks like 'onnx<2,>=1.16; extra == "onnx"'.
        if match := re.match(r"""([\w.-]+)[^;]*(?:;.*\bextra == ["']([\w-]+)["'])?""", requirement):
            found.setdefault(match[1], match[2] or "")
    return found


def _distribution(top: str) -> str:
    """The name under which a top-level module is installed."""
    return _DISTRIBUTIONS.get(top, top.replace("_", "-"))


def _is_optional(top: str) -> bool:
    """Whether a module belongs to an extra or, if the extras are not known, whether it is missing."""
    return bool(_extras().get(_distribution(top))) if _extras() else bool(top) and find_spec(top) is None


def require(module: str, purpose: str, extra: str | None = None) -> None:
    """Raise :class:`MissingExtraError` unless the top-level ``module`` is installed.

    Args:
        module: Name of the module.
        purpose: Name of what needs it.
        extra: Name of the extra, if several contain the package; None for the first one in ``pyproject.toml``.

    Examples:
        >>> require("json", "this example")
    """
    if find_spec(module) is None:
        raise MissingExtraError(module, purpose, extra)


@contextlib.contextmanager
def needs(purpose: str, extra: str | None = None) -> Iterator[None]:
    """Within the block, report a missing optional package with the ``pip install`` line that installs it.

    Args:
        purpose: Name of what imports the package.
        extra: Name of the extra, if several contain the package; None for the first one in ``pyproject.toml``.

    Raises:
        MissingExtraError: An optional package is not installed. The errors of other missing modules are not changed.

    Examples:
        >>> with needs("this example", "mm"):
        ...     raise ModuleNotFoundError("No module named 'mmdet'", name="mmdet")
        Traceback (most recent call last):
        llie_preproc.errors.MissingExtraError: this example needs the package 'mmdet', which is not installed: ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        top = (error.name or "").split(".")[0]
        if not _is_optional(top):
            raise
        raise MissingExtraError(top, purpose, extra) from error


class Extras:
    """The extras that a command needs to run, but not to show its help.

    The module of a command imports packages of the extras inside ``with NEEDS:``. If a package is missing, the import
    of the module continues without those names, and ``run``, which would use them, is not called.

    Args:
        names: Names of the extras, separated by commas.

    Examples:
        >>> NEEDS = Extras("mm")
        >>> with NEEDS:
        ...     raise ModuleNotFoundError("No module named 'mmdet'", name="mmdet")
        >>> NEEDS.check("llie compare")
        Traceback (most recent call last):
        llie_preproc.errors.MissingExtraError: llie compare needs the package 'mmdet', which is not installed: ...
    """

    def __init__(self, names: str) -> None:
        self._names = names
        self._missing: str | None = None

    def __enter__(self) -> None:
        """Start to import."""

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> bool:
        """Remember a package that cannot be found."""
        top = (getattr(error, "name", None) or "").split(".")[0]
        if not isinstance(error, ModuleNotFoundError | MissingExtraError) or not _is_optional(top):
            return False
        self._missing = top
        return True

    def all_with(self, extra: str | None) -> str:
        """The names together with another extra that is needed too, separated by commas."""
        return ",".join(dict.fromkeys(name for name in (*self._names.split(","), extra) if name))

    def check(self, purpose: str) -> None:
        """Raise :class:`MissingExtraError`, which names all the extras, if a package was missing.

        Args:
            purpose: Name of what needs the package.
        """
        if self._missing:
            raise MissingExtraError(self._missing, purpose, self._names)


def nearest(name: str, names: Iterable[str], plain: Callable[[str], str] = str.casefold) -> str:
    """Question that a message about an unknown name asks; empty if no known name is near.

    Args:
        name: Unknown name.
        names: Known names.
        plain: Function that removes what makes no difference between names.

    Examples:
        >>> nearest("lst", ["list", "enhance"]), nearest("xyz", ["list"])
        ("is 'list' meant?", '')
    """
    by_plain = {plain(each): each for each in names}
    near = [by_plain[each] for each in difflib.get_close_matches(plain(name), by_plain, _NEAR)]
    return f"is {' or '.join(map(repr, near))} meant?" if near else ""


def one_line(error: BaseException) -> str:
    """The message of an error in one line, with escapes for characters that could affect a terminal.

    Examples:
        >>> one_line(ValueError("no picture 'a\\nb'"))
        "no picture 'a b'"
        >>> one_line(FileNotFoundError(2, "No such file or directory", "a.json"))
        'a.json: no such file or folder'
    """
    line = " ".join(part.strip() for part in _message(error).splitlines() if part.strip())
    return printable(line)


def why_failed(name: object, error: BaseException) -> str:
    """The reason why one of several files failed: the first line of the message, without the file's name.

    Examples:
        >>> why_failed("a.png", FileNotFoundError(2, "No such file or directory", "a.png"))
        'no such file or folder'
    """
    text = _message(error).removeprefix(f"{name}: ")
    # An error of the system is one line, even if a file's name in it has line breaks.
    lines = [text] if isinstance(error, OSError) else [line for line in text.splitlines() if line.strip()]
    return printable(lines[0]) if lines else type(error).__name__


def _message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return _of_system(error, str(error.strerror))
    # str() of a KeyError is the repr of its message.
    return str(error.args[0] if isinstance(error, KeyError) and error.args else error)


def _of_system(error: OSError, said: str) -> str:
    """The system's message about a file, in the words of this project's own messages."""
    given = [name for name in (error.filename, error.filename2) if name is not None]
    texts = [os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(name) for name in given]
    names = [text for text in texts if text.strip()]
    if isinstance(error, FileExistsError) and names:
        said = f"a {'folder' if os.path.isdir(names[-1]) else 'file'} has this name"  # noqa: PTH112
    elif error.errno is not None and said == os.strerror(error.errno):
        said = said[:1].lower() + said[1:].replace("directory", "folder")
    return f"{' -> '.join(names)}: {said}" if names else said
