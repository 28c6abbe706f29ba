"""The project's commands and their options, found through its packages' tables and the commands' parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from llie_preproc.commands import llie


class _ParsedError(BaseException):
    """Carries the parser out of a program that is about to parse its arguments."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


class Command(NamedTuple):
    """A command of ``llie``: the words before the arguments of ``parser``."""

    words: tuple[str, ...]
    parser: argparse.ArgumentParser

    def __str__(self) -> str:
        return " ".join(self.words)

    def options(self) -> Iterator[argparse.Action]:
        """The arguments that take any text, and so maybe a path."""
        for action in self.parser._actions:
            stores = isinstance(action, argparse._StoreAction | argparse._ExtendAction) or action.nargs in ("+", "*")
            if stores and action.choices is None and not _is_number(action.type):
                yield action


def _is_number(kind: object) -> bool:
    """Whether an argument's type refuses a text that is not a number."""
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
    """Every command; a command that has subcommands is replaced by them."""
    table, unread = llie.find_commands()
    assert not unread
    found = [each for name in table for each in _commands((name,), _choices(_parser(name))[name])]
    return sorted(found, key=str)


def _commands(words: tuple[str, ...], parser: argparse.ArgumentParser) -> Iterator[Command]:
    inner = _choices(parser)
    for word, each in inner.items():
        yield from _commands((*words, word), each)
    if not inner:
        yield Command(words, parser)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    kinds = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(kinds[0].choices) if kinds else {}


def _parser(name: str) -> argparse.ArgumentParser:
    """The parser that ``llie`` makes for a command."""

    def caught(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _ParsedError(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", caught)
        try:
            llie.parse_args([name])
        except _ParsedError as parsed:
            return parsed.parser
    raise AssertionError(f"llie {name} parses no command line")
