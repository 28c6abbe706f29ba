"""Tables that the modules of a package fill themselves, and the settings that their entries declare.

A new entry needs only its own module: the module registers the entry, and the table imports all modules of its package.
Other packages list their modules under the table's name in the entry-point group ``llie_preproc.registry``
(:mod:`llie_preproc.registry`).
"""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeVar

from llie_preproc.commands.program import say
from llie_preproc.errors import MissingExtraError, needs, one_line
from llie_preproc.registry import joined_locations, unusable_tables

T = TypeVar("T")
Thing = TypeVar("Thing")


class SelfRegistered(Mapping[str, T]):
    """Mapping from names, in alphabetical order, to entries that modules of this and of other packages register.

    The modules are imported when the entries are first read. A module whose extra is not installed is skipped; a module
    of another package that cannot be imported is skipped with a warning.

    Args:
        package: Name of the package whose modules register entries.
        kind: Noun for an entry in messages.
        joins: Name under which other packages list their modules.
        skip: Names of modules that are not imported.

    Examples:
        >>> colours = SelfRegistered("json", "colour", "colour")
        >>> colours.register("red", "#f00")
        >>> list(colours), colours["red"]
        (['red'], '#f00')
    """

    def __init__(self, package: str, kind: str, joins: str, skip: Collection[str] = ()) -> None:
        self._package, self._kind, self._joins, self._skip = package, kind, joins, frozenset(skip)
        self._entries: dict[str, T] = {}
        self._complete = False

    def register(self, name: str, entry: T) -> None:
        """Add an entry.

        Raises:
            ValueError: The name is taken.
        """
        if name in self._entries:
            raise ValueError(f"there is a {self._kind} {name!r} already")
        self._entries[name] = entry

    def decorator(self, name: str, entry: Callable[[Any], T]) -> Callable[[Thing], Thing]:
        """Return a decorator that registers a class or function, and leaves it unchanged.

        Args:
            name: Name of the entry.
            entry: Function that makes the entry from the decorated class or function.

        Raises:
            ValueError: The name is taken.
        """

        def register(thing: Thing) -> Thing:
            self.register(name, entry(thing))
            return thing

        return register

    def __getitem__(self, name: str) -> T:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, T]:
        if not self._complete:
            for module in pkgutil.iter_modules(import_module(self._package).__path__, f"{self._package}."):
                if module.name not in self._skip:
                    _import(module.name)
            for name in joined_locations(self._joins):
                try:
                    _import(name)
                except (Exception, SystemExit) as error:  # A module of another package may raise anything.
                    say(f"warning: {name} has no {self._kind}: {type(error).__name__}: {one_line(error)}")
            for sentence in unusable_tables():
                say(f"warning: {sentence}")
            self._complete = True
        return self._entries


def _import(module: str) -> None:
    """Import a module, unless its extra is missing."""
    try:
        with needs(module):
            import_module(module)
    except MissingExtraError:
        pass


@dataclass(frozen=True)
class Setting:
    """A setting of an entry: an argument in Python, and a flag of the command that takes the entry.

    Attributes:
        name: Name of the argument. The flag has dashes in place of underscores.
        help: Description of the value, as a noun phrase.
        default: Value if none is given.
        needed: Whether a value must be given.
        type: Function that reads a value on the command line.
        nargs: Number of values on the command line, as for ``argparse``.
        choices: Allowed values; empty if any value is allowed.
        metavar: Word for the value in the help.

    Examples:
        >>> Setting("niqe_model", "file of NIQE's model", needed=True, metavar="FILE").flag
        '--niqe-model'
    """

    name: str
    help: str
    default: Any = None
    needed: bool = False
    type: Callable[[str], Any] = str
    nargs: str | None = None
    choices: tuple[Any, ...] = ()
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """Name of the setting on the command line."""
        return flag_of(self.name)


def flag_of(name: str) -> str:
    """Return the flag of a setting.

    Examples:
        >>> flag_of("niqe_model")
        '--niqe-model'
    """
    return f"--{name.replace('_', '-')}"


Declared = Mapping[str, Sequence[Setting]]
"""Settings of each entry of a table, by the entry's name."""


def add_settings(parser: Any, declared: Declared) -> None:
    """Add a flag for each setting; its help names the entries that have the setting, and its default is None.

    Args:
        parser: Parser, or a group of its arguments.
        declared: Settings by entry.

    Raises:
        ValueError: A setting has the flag of another argument, or two entries declare settings of the same name that
            differ in more than the help and ``needed``.
    """
    for name in names_of(declared):
        owners = _owners(declared, name)
        first = next(iter(owners.values()))
        for owner, other in owners.items():
            if replace(other, help="", needed=False) != replace(first, help="", needed=False):
                raise ValueError(f"{owner} declares the setting {name} differently from {next(iter(owners))}")
        words = dict.fromkeys(each.help for each in owners.values())
        texts = [f"{', '.join(o for o, each in owners.items() if each.help == text)}: {text}" for text in words]
        try:
            parser.add_argument(
                first.flag,
                type=first.type,
                nargs=first.nargs,
                choices=first.choices or None,
                metavar=None if first.choices else first.metavar,
                help="; ".join(texts).replace("%", "%%") + _default_text(first),
            )
        except argparse.ArgumentError as error:
            raise ValueError(f"the setting {name} of {', '.join(owners)} has a flag of the command: {error}") from None


def names_of(declared: Declared) -> list[str]:
    """List the names of all settings, each once."""
    return list(dict.fromkeys(each.name for settings in declared.values() for each in settings))


def misplaced(declared: Declared, chosen: Collection[str], given: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """Find a setting that has a value although no chosen entry has that setting.

    Args:
        declared: Settings by entry.
        chosen: Names of the entries that are used.
        given: Values by the setting's name; None stands for a value that is not given.

    Returns:
        Name of the first such setting and the names of the entries that have it; None if there is no such setting.

    Examples:
        >>> declared = {"box": [Setting("side", "length")], "disc": [Setting("radius", "length")]}
        >>> misplaced(declared, ["box"], {"radius": 3})
        ('radius', ['disc'])
    """
    for name, value in given.items():
        owners = list(_owners(declared, name))
        if value is not None and not set(owners) & set(chosen):
            return name, owners
    return None


def values_of(settings: Sequence[Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each setting of an entry: the given value, or else the default."""
    known = {each.name: given.get(each.name) for each in settings}
    return {each.name: each.default if known[each.name] is None else known[each.name] for each in settings}


def lacking(settings: Sequence[Setting], given: Mapping[str, Any]) -> Setting | None:
    """Return the first setting that needs a value and has none, or None."""
    return next((each for each in settings if each.needed and given.get(each.name) is None), None)


def _owners(declared: Declared, name: str) -> dict[str, Setting]:
    return {owner: each for owner, settings in declared.items() for each in settings if each.name == name}


def _default_text(setting: Setting) -> str:
    if setting.default is None:
        return ""
    values = setting.default if setting.nargs else [setting.default]
    return f" (default: {' '.join(map(str, values))})"
