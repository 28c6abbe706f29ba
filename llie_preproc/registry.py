"""Child registries of MMEngine's registries, with the scope ``llie_preproc``.

``type='llie_preproc.PSENet'`` works in any MMEngine config without ``custom_imports``. When MMEngine meets an unknown
scope, it imports ``<scope>.registry``. When a registry is asked for a name that it does not have yet, it imports the
modules that register into it, those of this package one by one and then those of other packages.

Another package joins by an entry point of the group ``llie_preproc.registry`` that names a table of its modules ::

    [project.entry-points."llie_preproc.registry"]
    my_package = "my_package.registered:LOCATIONS"

    LOCATIONS = {"enhancer": ["my_package.networks"], "model": ["my_package.losses"], "hook": ["my_package.hooks"]}

A key is the name of a registry; or ``enhancer`` for networks, which are also found without MMEngine and by every
command; or another name, for which :func:`joined_locations` returns the modules.

Without MMEngine, the enhancers are still registered by name, in a registry with the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from .entry_points import tables
from .errors import MissingExtraError, needs, one_line

GROUP = "llie_preproc.registry"
"""Entry-point group of tables, which list modules by the name of the registry (or ``enhancer``) that they add to."""

try:
    from mmengine import registry as mmengine_registry
    from mmengine.registry import Registry as _Base
except ModuleNotFoundError as error:
    if error.name != "mmengine":
        raise
    mmengine_registry = None

    class _Base:  # type: ignore[no-redef]
        """The part of ``mmengine.registry.Registry`` that is needed to register and look up enhancers."""

        def __init__(self, name: str, parent: Any, scope: str, locations: list[str]) -> None:
            self.name, self.scope, self._locations = name, scope, locations
            self._module_dict: dict[str, Any] = {}

        def import_from_location(self) -> None: ...

        def register_module(self, name: str | None = None, force: bool = False) -> Callable[[Any], Any]:
            def register(module: Any) -> Any:
                key = name or module.__name__
                if not force and key in self._module_dict:
                    raise KeyError(f"{key} is already registered in {self.name}")
                self._module_dict[key] = module
                return module

            return register

        def get(self, key: str) -> Any:
            self.import_from_location()
            return self._module_dict.get(key.removeprefix(f"{self.scope}."))


class Registry(_Base):
    """A registry that, when it is asked for a name, imports the modules that register into it.

    A module whose extra is not installed is skipped; the error about an unknown name mentions it.

    Attributes:
        fallback: Function that returns an object for a name that nothing in this package registers, or None for a name
            that it does not know.

    Examples:
        >>> MODELS.get("PSENet").__name__
        'PSENet'
        >>> MODELS.get("llie_preproc.PSENet") is MODELS.get("PSENet")
        True
    """

    def __init__(self, name: str, locations: list[str]) -> None:
        parent = getattr(mmengine_registry, f"{name.upper()}S", None)
        super().__init__(name, parent=parent, scope="llie_preproc", locations=locations)
        self.fallback: Callable[[str], Any] | None = None
        self._own = list(locations)
        # Modules that have been imported, or cannot be imported. Python's own locks wait for an import in another
        # thread.
        self._done: set[str] = set()
        self._absent: dict[str, ImportError] = {}

    def import_from_location(self) -> None:
        """Import every module that registers into this registry."""
        for location in self._own:
            self._import(location)
        for location in self._joined():
            self._import(location, own=False)

    def get(self, key: str) -> Any:
        """The object that is registered as ``key``, or None.

        Raises:
            ImportError: There is no such object, and a module that would register more cannot be imported, because an
                extra is missing (:class:`~llie_preproc.errors.MissingExtraError`) or another package with its name
                hides it.
        """
        scope, _, name = key.rpartition(".") if isinstance(key, str) else ("", "", key)
        found = self._found(name) if scope in ("", self.scope) else None
        if found is None:
            found = super().get(key)
        if found is None and self._absent:
            raise next(iter(self._absent.values()))
        return found

    def _found(self, name: str) -> Any:
        """The object that is registered under a name, after the import of as many modules as are needed to find it."""
        for location in self._own:
            if name in self._module_dict:
                break
            self._import(location)
        if name not in self._module_dict and self.fallback and (made := self.fallback(name)) is not None:
            return made
        if name not in self._module_dict:
            for location in self._joined():
                self._import(location, own=False)
        return self._module_dict.get(name)

    def _joined(self) -> Iterator[str]:
        """Yield the modules of other packages that register here."""
        for number, table in enumerate(joined_tables()):
            if isinstance(table, ImportError):
                self._absent[f"table {number}"] = table
        yield from joined_locations("enhancer" if self.name == "model" else "")
        yield from joined_locations(self.name)

    def _import(self, location: str, own: bool = True) -> None:
        """Import a module, or remember the error for the case that a name is not found."""
        if location in self._done:
            return
        try:
            with needs(location):
                import_module(location)
        except MissingExtraError as error:
            self._absent[location] = error
        except (Exception, SystemExit) as error:  # a module of another package may raise anything
            if own:
                raise
            reason = f"{location} does not import: {type(error).__name__}: {one_line(error)}"
            self._absent[location] = ImportError(reason, name=location)
        self._done.add(location)


def import_modules(package: str, folders: Iterable[str]) -> None:
    """Import every module of a package, so that a new file registers what it has without being named elsewhere.

    Args:
        package: Name of the package.
        folders: The package's ``__path__``.
    """
    for found in iter_modules(folders):
        import_module(f"{package}.{found.name}")


@lru_cache(maxsize=1)
def joined_tables() -> tuple[Any, ...]:
    """The tables of other packages, with an ``ImportError`` in place of a table that cannot be used."""
    found = []
    for entry, table in tables(GROUP):
        usable = isinstance(table, Mapping) and all(isinstance(each, list | tuple) for each in table.values())
        if not usable and not isinstance(table, ImportError):
            table = ImportError(f"the entry point {entry.name} of {GROUP} must name a dict of lists of modules")
        found.append(table)
    return tuple(found)


def unusable_tables() -> list[str]:
    """Return a sentence for each table of another package that cannot be used.

    Examples:
        >>> unusable_tables()
        []
    """
    return [one_line(table) for table in joined_tables() if isinstance(table, ImportError)]


def joined_locations(kind: str) -> Iterator[str]:
    """Yield the modules that other packages name for a registry, or for ``enhancer``.

    Examples:
        >>> list(joined_locations("a registry that no package names"))
        []
    """
    for table in joined_tables():
        if not isinstance(table, ImportError):
            yield from table.get(kind, ())


MODELS = Registry(
    "model",
    [
        "llie_preproc.enhancers",
        "llie_preproc.detection",
        "llie_preproc.faces.dsfd",
        "llie_preproc.segmentation.box_prompted",
    ],
)
TRANSFORMS = Registry("transform", ["llie_preproc.detection", "llie_preproc.faces.dsfd"])
TASK_UTILS = Registry("task_util", ["llie_preproc.faces.dsfd"])
DATASETS = Registry("dataset", ["llie_preproc.numbered_draws", "llie_preproc.detection.named_classes"])
DATA_SAMPLERS = Registry("data_sampler", ["llie_preproc.numbered_draws"])
METRICS = Registry("metric", ["llie_preproc.detection.named_classes"])
HOOKS = Registry("hook", ["llie_preproc.mm.runner_parts", "llie_preproc.numbered_draws", "llie_preproc.detection"])
PARAM_SCHEDULERS = Registry("param_scheduler", [])
MODEL_WRAPPERS = Registry("model_wrapper", [])
OPTIMIZERS = Registry("optimizer", [])
OPTIM_WRAPPERS = Registry("optim_wrapper", [])
OPTIM_WRAPPER_CONSTRUCTORS = Registry("optim_wrapper_constructor", [])
