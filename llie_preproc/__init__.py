"""Low-light and extreme-light enhancement in front of detectors, face detectors and SAM."""

from typing import TYPE_CHECKING, Any

from . import wrapped_configs
from .after_import import after_import
from .mm import chatter, finder
from .version import __version__

if TYPE_CHECKING:
    from .inference import build_enhancer, enhance


def _watch_models() -> None:
    from .watched_models import watch_models

    watch_models()


# Before anything imports mmdet: its models do not import where mmcv lacks its operators.
finder.install()
# Whether a program imports MMEngine before this package or after it.
after_import("mmengine.config", wrapped_configs.lend_backbone)
after_import("mmengine.model", _watch_models)
after_import("mmengine.logging", chatter.silence)

__all__ = ["__version__", "build_enhancer", "enhance"]


def __getattr__(name: str) -> Any:
    """The public functions, when first asked for: PyTorch takes seconds to import, in which Ctrl-C must be heard."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import inference

    return globals().setdefault(name, getattr(inference, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
