"""Tables that the modules of a package fill themselves, and the settings that their entries declare.

An entry is added by a module alone: the module registers it, and the table finds the module by walking its package.
Other packages name their modules under the table's name in ``llie_preproc.registry`` (:mod:`llie_preproc.registry`).
"""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, TypeVar

from llie_preproc.errors import MissingExtraError, needs, one_line
from llie_preproc.registry import joined_locations

T = TypeVar("T")
Thing = TypeVar("Thing")


class SelfRegistered(Mapping[str, T]):
    """Entries by name, in the order of the names, that the modules of a package, and of those that join, register.

    The modules are imported when the entries are first asked for. A module whose extra is not installed is passed over;
    one of another package that does not import is left out with a warning.

    >>> colours = SelfRegistered("json", "colour", "colour")
    >>> colours.register("red", "#f00")
    >>> list(colours), colours["red"]
    (['red'], '#f00')

    Args:
        package: Name of the package whose modules register entries.
        kind: Noun for an entry in messages.
        joins: Name under which other packages list their modules.
        skip: Names of modules that are not imported.
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
        """A decorator that registers a class or function, which stays as it is.

        Args:
            name: Name of the entry.
            entry: Function that makes the entry of what is decorated.

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
                except Exception as error:  # of a package that one knows nothing of
                    warnings.warn(f"no {self._kind} of {name}: {one_line(error)}", stacklevel=4)
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
        help: Words for the value, which begin with a noun.
        default: Value where none is given.
        needed: Whether the entry needs a value.
        type: Function that reads a value on the command line.
        nargs: Number of values on the command line, as ``argparse`` has it.
        choices: Values that are allowed; empty: any.
        metavar: Word for the value in the help.
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
        """The name on the command line."""
        return f"--{self.name.replace('_', '-')}"


Declared = Mapping[str, Sequence[Setting]]
"""The settings of each entry of a table."""


def add_settings(parser: Any, declared: Declared) -> None:
    """Add a flag for each setting, whose help says for which entries it is; what is not given is None.

    Args:
        parser: Parser, or group of one.
        declared: Settings by entry.

    Raises:
        ValueError: Two entries declare values of different kinds by one name.
    """
    for name in names_of(declared):
        owners = _owners(declared, name)
        first = next(iter(owners.values()))
        for owner, other in owners.items():
            if replace(other, help="", needed=False) != replace(first, help="", needed=False):
                raise ValueError(f"{owner} declares the setting {name} otherwise than {next(iter(owners))}")
        words = dict.fromkeys(each.help for each in owners.values())
        texts = [f"{', '.join(o for o, each in owners.items() if each.help == text)}: {text}" for text in words]
        parser.add_argument(
            first.flag,
            type=first.type,
            nargs=first.nargs,
            choices=first.choices or None,
            metavar=None if first.choices else first.metavar,
            help="; ".join(texts).replace("%", "%%") + _default_text(first),
        )


def names_of(declared: Declared) -> list[str]:
    """The names of all settings."""
    return list(dict.fromkeys(each.name for settings in declared.values() for each in settings))


def misplaced(declared: Declared, chosen: Collection[str], given: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The first setting with a value that no chosen entry has, and the entries that have it; None where all are used.

    >>> declared = {"box": [Setting("side", "length of a side")], "disc": [Setting("radius", "length of the radius")]}
    >>> misplaced(declared, ["box"], {"radius": 3})
    ('radius', ['disc'])

    Args:
        declared: Settings by entry.
        chosen: Names of the entries that are used.
        given: Values by the setting's name; None: not given.
    """
    for name, value in given.items():
        owners = list(_owners(declared, name))
        if value is not None and not set(owners) & set(chosen):
            return name, owners
    return None


def values_of(settings: Sequence[Setting], given: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each setting of an entry, given or its default."""
    known = {each.name: given.get(each.name) for each in settings}
    return {each.name: each.default if known[each.name] is None else known[each.name] for each in settings}


def lacking(settings: Sequence[Setting], given: Mapping[str, Any]) -> Setting | None:
    """The first setting that needs a value and has none."""
    return next((each for each in settings if each.needed and given.get(each.name) is None), None)


def _owners(declared: Declared, name: str) -> dict[str, Setting]:
    return {owner: each for owner, settings in declared.items() for each in settings if each.name == name}


def _default_text(setting: Setting) -> str:
    if setting.default is None:
        return ""
    values = setting.default if setting.nargs else [setting.default]
    return f" (default: {' '.join(map(str, values))})"
