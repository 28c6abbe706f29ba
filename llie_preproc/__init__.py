"""Low-light and extreme-light enhancement in front of detectors, face detectors and SAM."""

from typing import TYPE_CHECKING, Any

from .after_import import after_import
from .lent_backbone import lend_backbone
from .mm import chatter, finder
from .version import __version__

if TYPE_CHECKING:
    from .enhancers.build import build_enhancer
    from .inference import FrozenEnhancer, enhance
    from .inference_options import InferenceOptions


def _watch_models() -> None:
    from .watched_models import watch_models

    watch_models()


# This must precede any import of mmdet, whose models cannot be imported if mmcv lacks its operators.
finder.install()
# A program may import MMEngine before this package or after it.
after_import("mmengine.config", lend_backbone)
after_import("mmengine.model", _watch_models)
after_import("mmengine.logging", chatter.silence)

_MODULES = {
    "FrozenEnhancer": ".inference",
    "InferenceOptions": ".inference_options",
    "build_enhancer": ".enhancers.build",
    "enhance": ".inference",
}

__all__ = ["FrozenEnhancer", "InferenceOptions", "__version__", "build_enhancer", "enhance"]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, because PyTorch takes seconds to import and Ctrl-C must work meanwhile.

    Examples:
        >>> import llie_preproc
        >>> llie_preproc.build_enhancer("identity")
        Identity()
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(_MODULES[name], __name__)
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
