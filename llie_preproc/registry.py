"""Child registries of MMEngine's, scope ``llie_preproc``.

``type='llie_preproc.PSENet'`` resolves from any MMEngine config without ``custom_imports``: on meeting an unknown
scope MMEngine imports ``<scope>.registry``, and a registry imports the modules that register into it when it is asked
for what it does not have yet: those of this package one by one, then those of other packages.

Another package joins by an entry point of the group ``llie_preproc.registry`` that names a table of its modules ::

    [project.entry-points."llie_preproc.registry"]
    my_package = "my_package.registered:LOCATIONS"

    LOCATIONS = {"enhancer": ["my_package.networks"], "model": ["my_package.losses"], "hook": ["my_package.hooks"]}

with the name of a registry, or ``enhancer`` for networks, which also are found without MMEngine and by every command.

Without MMEngine the enhancers are still registered by name, in a registry of the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module
from typing import Any

from .entry_points import tables
from .errors import MissingExtraError, needs

GROUP = "llie_preproc.registry"
"""Entry-point group of tables: name of a registry, or ``enhancer``, to the modules that register into it."""

try:
    from mmengine import registry as mmengine_registry
    from mmengine.registry import Registry as _Base
except ModuleNotFoundError as error:
    if error.name != "mmengine":
        raise
    mmengine_registry = None

    class _Base:  # type: ignore[no-redef]
        """The part of ``mmengine.registry.Registry`` that registering and looking up enhancers takes."""

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
    """A registry that imports what registers into it when that is asked for.

    A module whose extra is not installed is left out, and named on demand.

    Attributes:
        fallback: Function that makes what is asked for of a name that nothing in this package registers; it returns
            None for a name that it does not know.
    """

    def __init__(self, name: str, locations: list[str]) -> None:
        parent = getattr(mmengine_registry, f"{name.upper()}S", None)
        super().__init__(name, parent=parent, scope="llie_preproc", locations=locations)
        self.fallback: Callable[[str], Any] | None = None
        self._absent: list[ImportError] = []
        # What is not imported yet.
        self._own, self._joined = list(locations), [name]

    def import_from_location(self) -> None:
        """Import every module that registers into this registry."""
        while self._own:
            self._import_own()
        while self._joined:
            self._import_joined()

    def get(self, key: str) -> Any:
        """The object registered as ``key``, or None.

        Raises:
            ImportError: There is none, and a module that would register more cannot be imported: an extra is missing
                (:class:`~llie_preproc.errors.MissingExtraError`), or another package of its name hides it.
        """
        scope, _, name = key.rpartition(".") if isinstance(key, str) else ("", "", key)
        found = self._found(name) if scope in ("", self.scope) else None
        if found is None:
            found = super().get(key)
        if found is None and self._absent:
            raise self._absent[0]
        return found

    def _found(self, name: str) -> Any:
        """What is registered by a name, once as many modules are imported as that takes."""
        while name not in self._module_dict and self._own:
            self._import_own()
        if name not in self._module_dict and self.fallback and (made := self.fallback(name)) is not None:
            return made
        while name not in self._module_dict and self._joined:
            self._import_joined()
        return self._module_dict.get(name)

    def _import_own(self) -> None:
        location = self._own.pop(0)
        try:
            with needs(location):
                import_module(location)
        except MissingExtraError as error:
            self._absent.append(error)

    def _import_joined(self) -> None:
        """Import what other packages name; one that does not import is told of where something is not found."""
        name = self._joined.pop()
        self._absent += [table for table in joined_tables() if isinstance(table, ImportError)]
        for location in (*joined_locations("enhancer" if name == "model" else ""), *joined_locations(name)):
            try:
                with needs(location):
                    import_module(location)
            except ImportError as error:
                self._absent.append(error)


@lru_cache(maxsize=1)
def joined_tables() -> tuple[Any, ...]:
    """What other packages register where: a table each, or the ``ImportError`` of one that does not import.

    Raises:
        TypeError: An entry point names no table.
    """
    found = []
    for entry, table in tables(GROUP):
        if not isinstance(table, dict | ImportError):
            raise TypeError(f"the entry point {entry.name} of {GROUP} must name a dict, got {type(table).__name__}")
        found.append(table)
    return tuple(found)


def joined_locations(kind: str) -> Iterator[str]:
    """The modules that other packages name for a registry, or for ``enhancer``."""
    for table in joined_tables():
        if not isinstance(table, ImportError):
            yield from table.get(kind, ())


MODELS = Registry(
    "model",
    [
        "llie_preproc.enhancers",
        "llie_preproc.detection",
        "llie_preproc.faces.dsfd",
        "llie_preproc.segmentation.mmdet_model",
    ],
)
TRANSFORMS = Registry("transform", ["llie_preproc.detection", "llie_preproc.faces.dsfd"])
TASK_UTILS = Registry("task_util", ["llie_preproc.faces.dsfd"])
DATASETS = Registry("dataset", ["llie_preproc.draws", "llie_preproc.detection.named_classes"])
DATA_SAMPLERS = Registry("data_sampler", ["llie_preproc.draws"])
METRICS = Registry("metric", ["llie_preproc.detection.named_classes"])
HOOKS = Registry("hook", ["llie_preproc.runs", "llie_preproc.draws", "llie_preproc.detection"])
PARAM_SCHEDULERS = Registry("param_scheduler", [])
MODEL_WRAPPERS = Registry("model_wrapper", [])
OPTIMIZERS = Registry("optimizer", [])
OPTIM_WRAPPERS = Registry("optim_wrapper", [])
OPTIM_WRAPPER_CONSTRUCTORS = Registry("optim_wrapper_constructor", [])
