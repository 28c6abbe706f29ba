"""Child registries of MMEngine's, scope ``llie_preproc``.

``type='llie_preproc.PSENet'`` resolves from any MMEngine config without ``custom_imports``: on meeting an unknown
scope MMEngine imports ``<scope>.registry``, and the registries import their ``locations`` when first asked.

Without MMEngine the enhancers are still registered by name, in a registry of the same interface.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError

if TYPE_CHECKING:
    from .enhancers.base import Enhancer

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
    """A registry whose locations may need an extra that is not installed: those are left out, and named on demand."""

    def __init__(self, name: str, locations: list[str]) -> None:
        parent = getattr(mmengine_registry, f"{name.upper()}S", None)
        self._absent: list[ImportError] = []
        self._imported_locations = False
        super().__init__(name, parent=parent, scope="llie_preproc", locations=locations)

    def import_from_location(self) -> None:
        """Import the modules that register into this registry."""
        if self._imported_locations:
            return
        self._imported_locations = True
        for location in self._locations:
            try:
                import_module(location)
            except MissingExtraError as error:
                self._absent.append(error)
            except ModuleNotFoundError as error:
                # Another package called 'training', say, that stands earlier on the path.
                if not error.name or not location.startswith(error.name):
                    raise
                self._absent.append(error)

    def get(self, key: str) -> Any:
        """The object registered as ``key``, or None.

        Raises:
            ImportError: There is none, and a module that would register more cannot be imported: an extra is missing
                (:class:`~llie_preproc.errors.MissingExtraError`), or another package of its name hides it.
        """
        found = super().get(key)
        if found is None and self._absent:
            raise self._absent[0]
        return found


class TransformRegistry(Registry):
    """Every registered enhancer also is a transform under its own name: ``Enhance`` with that network."""

    def get(self, key: str) -> Any:
        found = super().get(key)
        name = key.removeprefix(f"{self.scope}.")
        if found is None and "." not in name and name in enhancer_classes():
            from .detection.transforms import enhance_by_name

            return enhance_by_name(name)
        return found


MODELS = Registry(
    "model",
    [
        "llie_preproc.enhancers",
        "llie_preproc.detection",
        "llie_preproc.faces.dsfd",
        "llie_preproc.segmentation.mmdet_model",
        "training.methods",
        "training.discriminators",
        "training.losses",
        "training.joint.losses",
        "training.feature_encoders",
    ],
)
TRANSFORMS = TransformRegistry("transform", ["llie_preproc.detection", "llie_preproc.faces.dsfd", "training.datasets"])
TASK_UTILS = Registry("task_util", ["llie_preproc.faces.dsfd"])
DATASETS = Registry("dataset", ["llie_preproc.draws", "training.datasets", "llie_preproc.detection.named_classes"])
DATA_SAMPLERS = Registry("data_sampler", ["llie_preproc.draws", "training.datasets"])
METRICS = Registry(
    "metric",
    ["detection_eval.metrics", "detection_eval.metrics.detection_metrics", "llie_preproc.detection.named_classes"],
)
HOOKS = Registry(
    "hook",
    ["llie_preproc.runs", "llie_preproc.draws", "llie_preproc.detection", "training.hooks", "training.joint.hooks"],
)
PARAM_SCHEDULERS = Registry("param_scheduler", ["training.hooks"])
MODEL_WRAPPERS = Registry("model_wrapper", ["training.parallel"])
OPTIMIZERS = Registry("optimizer", ["training.optim"])
OPTIM_WRAPPERS = Registry("optim_wrapper", ["training.optim"])
OPTIM_WRAPPER_CONSTRUCTORS = Registry("optim_wrapper_constructor", ["training.optim"])


def enhancer_classes() -> dict[str, type[Enhancer]]:
    """Every registered enhancer, by name, sorted. Imports no detector: that takes seconds."""
    from .enhancers import Enhancer

    registered = sorted(MODELS._module_dict.items())
    return {k: v for k, v in registered if isinstance(v, type) and issubclass(v, Enhancer)}
