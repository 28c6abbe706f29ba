"""The commands of this project and their options, found by walking the packages and their parsers."""

from __future__ import annotations

import argparse
import ast
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import detection_eval
import llie_preproc
import training


class _ParsedError(BaseException):
    """Carries a program's parser out of it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class Command(NamedTuple):
    """A command: ``main`` of ``module`` with ``words`` before the arguments of ``parser``."""

    module: str
    words: tuple[str, ...]
    parser: argparse.ArgumentParser

    def __str__(self) -> str:
        return " ".join((self.module, *self.words))

    @property
    def main(self) -> Callable[[Sequence[str]], int]:
        return importlib.import_module(self.module).main

    def options(self) -> Iterator[argparse.Action]:
        """The arguments whose values are texts, which may all be paths."""
        for action in self.parser._actions:
            stores = isinstance(action, argparse._StoreAction | argparse._ExtendAction) or action.nargs in ("+", "*")
            if stores and action.choices is None and not _is_number(action.type):
                yield action


def _is_number(kind: object) -> bool:
    """Whether an argument's type refuses every text that is no number."""
    if kind is None or not callable(kind):
        return False
    try:
        kind("hostile_text")
    except (ValueError, TypeError, argparse.ArgumentTypeError):
        return True
    except Exception:
        return False
    return False


def commands() -> list[Command]:
    """Every command of every module with ``main(argv)``, without its aliases in other modules."""
    found = [each for module in _programs() for each in _commands(module, ())]
    return sorted(found, key=str)


def _programs() -> Iterator[str]:
    for package in (llie_preproc, training, detection_eval):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if _defines_main(module):
                yield module.name


def _defines_main(module: pkgutil.ModuleInfo) -> bool:
    source = Path(module.module_finder.path, f"{module.name.split('.')[-1]}.py")  # type: ignore[union-attr]
    tree = ast.parse(source.read_text(encoding="utf-8") if source.is_file() else "")
    mains = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    return any(argument.arg == "argv" for node in mains for argument in node.args.args)


def _commands(module: str, words: tuple[str, ...]) -> Iterator[Command]:
    parser = _parser(module, words)
    for word in words:
        parser = _choices(parser)[word]
    inner = _choices(parser)
    for word in inner:
        yield from _commands(module, (*words, word))
    if not inner:
        yield Command(module, words, parser)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(kinds[0].choices) if kinds else {}


def _parser(module: str, words: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser that a program makes for a command line that begins with ``words``."""

    def caught(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _ParsedError(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", caught)
        try:
            importlib.import_module(module).main(list(words))
        except _ParsedError as parsed:
            return parsed.parser
    raise AssertionError(f"{module} parses no command line")
