"""The ``llie`` program, which finds the commands of all packages and runs one of them.

Each package has a table that maps the name of a command to its module and its line of help. Other packages name their
table by an entry point of the group ``llie_preproc.commands``. A command's module has ``add_arguments(parser)`` and
``run(args)``, which returns the exit status or None. The module's docstring is the text above the arguments in
``llie COMMAND --help``, and its optional ``NEEDS`` holds the extras that ``run`` needs. Only the module of the called
command is imported.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from ..entry_points import tables
from ..errors import Extras, MissingExtraError, needs, one_line
from ..version import __version__
from . import COMMANDS
from .program import Parser, importing, launch, run

GROUP = "llie_preproc.commands"
"""Entry-point group of the command tables of other packages."""

Table = Mapping[str, tuple[str, str]]


class _Parser(Parser):
    prefix = "llie: "


class _Paragraphs(argparse.HelpFormatter):
    """Formatter that wraps each paragraph of a docstring by itself."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(_Paragraphs, self)._fill_text(each, width, indent) for each in text.split("\n\n"))


def start(*words: str, renamed: Mapping[str, str] | None = None) -> NoReturn:
    """Run ``llie`` with the arguments of this process, and end the process with its status.

    Args:
        words: Arguments that come before those of the process, such as a command's name.
        renamed: New names of commands, by the names that they had in an older program.
    """
    sys.argv[1:1] = words
    if (name := (renamed or {}).get(old := "".join(sys.argv[1:2]))) is not None:
        _Parser(prog=f"llie {name}").error(f"the command {old!r} is {name!r} now")
    launch(__name__, "llie")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``llie`` inside this process, and return the exit status.

    Args:
        argv: Arguments after the program's name; by default those of the process.

    Examples:
        >>> status = main(["list"])  # doctest: +ELLIPSIS
        ENHANCER ...
        >>> status
        0
    """
    return run(partial(_main, sys.argv[1:] if argv is None else list(argv)), "llie")


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command line that begins with a command's name.

    Returns:
        The arguments. Their attribute ``run`` is the command's function.

    Examples:
        >>> parse_args(["enhance", "night", "--out", "day"]).out
        'day'
    """
    parser = _parser(argv[0] if argv else "")
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        # The message refers to the command's own help, because that lists the command's flags.
        parser.prog = f"llie {argv[0]}"
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def find_commands() -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The commands of all packages, and a sentence for each table that cannot be used.

    Examples:
        >>> commands, problems = find_commands()
        >>> commands["enhance"]
        ('llie_preproc.commands.enhance', 'enhance a picture, a folder or a video')
    """
    found, unread = dict(COMMANDS), []
    for entry, table in tables(GROUP):
        if problem := _problem(table, found):
            unread.append(f"the commands of {entry.name} cannot be used: {problem}")
        else:
            found.update(table)
    return found, unread


def _problem(table: Any, found: Table) -> str | None:
    if isinstance(table, ImportError):
        return one_line(table)
    if not isinstance(table, Mapping):
        return f"expected a dict, got {type(table).__name__}"
    taken = sorted(set(table) & set(found))
    return f"another package has a command {taken[0]!r} too" if taken else None


def _main(argv: Sequence[str]) -> int | None:
    command = " ".join(["llie", *argv[:1]])
    # A missing extra is reported under the command's name, both while the parser is made and later.
    with needs(command):
        try:
            with importing():
                args = parse_args(argv)
        except MissingExtraError as error:
            # The message names the command that the user called, not the module that needed the extra.
            raise MissingExtraError(error.name or "", command, error.extra) from error
        args.needs.check(command)
        try:
            return args.run(args)
        except MissingExtraError as error:
            raise MissingExtraError(error.name or "", error.purpose, args.needs.all_with(error.extra)) from error


def _parser(asked: str) -> argparse.ArgumentParser:
    table, unread = find_commands()
    if unread and asked not in table and not asked.startswith("-"):
        raise ValueError(f"there is no command {asked!r}; {'; '.join(unread)}")
    parser = _Parser(
        prog="llie",
        description="Low-light and extreme-light enhancement.",
        epilog="; ".join(unread),
        formatter_class=partial(argparse.HelpFormatter, max_help_position=20),
    )
    parser.add_argument("--version", action="version", version=f"llie {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    if asked in table:
        _add_command(commands, asked, table[asked][0])
    else:
        for name, (_, help_) in table.items():
            commands.add_parser(name, help=_literal(help_), add_help=False)
    return parser


def _add_command(commands: argparse._SubParsersAction, name: str, module: str) -> None:
    command = import_module(module)
    parser = commands.add_parser(name, description=command.__doc__, formatter_class=_Paragraphs)
    command.add_arguments(parser)
    parser.set_defaults(run=command.run, needs=getattr(command, "NEEDS", Extras("")))


def _literal(text: str) -> str:
    """Escape a text for argparse, which formats help texts."""
    return text.replace("%", "%%")
