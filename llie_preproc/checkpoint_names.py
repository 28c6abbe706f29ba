"""Loading a checkpoint into a model that has its enhancer at another place than the checkpoint.

An enhancer can be in the data pipeline, in the data preprocessor, or in an ``EnhancedDetector``, which wraps the
detector. These places are called doors. Each door gives the same tensors other names:
=====================  =======================  ==================================
door                   the detector's tensors   the enhancer's tensors
=====================  =======================  ==================================
none, or the pipeline  ``backbone...``          in a file of their own
data preprocessor      ``backbone...``          ``data_preprocessor.enhancer...``
``EnhancedDetector``   ``detector.backbone...`` ``enhancer...``
=====================  =======================  ==================================

MMEngine loads the tensors whose names fit, and only logs the rest. The detector would then keep random weights, or the
enhancer's weights would be lost. So this module renames the tensors if the model has a place for detector and enhancer,
and refuses the checkpoint otherwise. Loading begins at the outermost module, which is a ``BaseModel`` of MMEngine.
Therefore :func:`llie_preproc.watched_models.watch_models` adds the renaming to ``BaseModel``. It then works for
``load_state_dict`` and for MMEngine's own loading function. A checkpoint in which no name has ``enhancer`` or
``detector`` keeps its names. Models and files are not changed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from .checkpoints import check_weights
from .enhancers.base import Enhancer
from .errors import CheckpointError

WRAPPED = "detector."
_WRAPPERS_ENHANCER = "enhancer."
_NAMED = re.compile(r"(^|\.)(enhancer|detector)\.")
# Every door has its enhancer at such a place, also inside a model that holds detectors. Other models may use the word
# "enhancer" for a part at another place.
_ENHANCER = re.compile(r"((detector|student|teacher|module)\.)*(data_preprocessor\.)*enhancer\.")
_PREPROCESSORS = re.compile(r"^(data_preprocessor\.)+enhancer\.")
_PLACE = re.compile(r"(data_preprocessor\.)*enhancer\.")
_APART = "'llie split CHECKPOINT --out DIR' writes detector and enhancer to separate files"


def fit_names(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a checkpoint of any door to the names of ``model``.

    Args:
        model: Detector, plain or with an enhancer.
        state: Tensors by name; it is not changed.

    Raises:
        CheckpointError: The model has no place for the weights of the checkpoint's enhancer; or the checkpoint has a
            learned fusion, which only an ``EnhancedDetector`` has; or the model has an enhancer, and the checkpoint has
            tensors of a wrong kind.

    Examples:
        >>> from torch import ones
        >>> from llie_preproc.enhancers import Identity
        >>> model = nn.ModuleDict(dict(enhancer=Identity(), detector=nn.Linear(1, 1)))
        >>> list(fit_names(model, {"weight": ones(1, 1), "data_preprocessor.enhancer.gamma": ones(1)}))
        ['detector.weight', 'enhancer.gamma']
    """
    places = [f"{name}." for name, module in model.named_modules() if isinstance(module, Enhancer)]
    if any(_NAMED.search(name) for name in state):
        state = _converted(model, state, places)
    if places:
        check_weights(state, model)
    return state


def own_names(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Select the tensors whose names begin with a prefix, and remove the prefix.

    Examples:
        >>> own_names({"enhancer.weight": 1, "detector.weight": 2}, "enhancer.")
        {'weight': 1}
    """
    return {name.removeprefix(prefix): state_dict[name] for name in state_dict if name.startswith(prefix)}


def replace_own(state_dict: dict[str, Tensor], prefix: str, own: Mapping[str, Tensor]) -> None:
    """Replace all tensors whose names begin with a prefix by other tensors, which are named without the prefix.

    Examples:
        >>> state = {"enhancer.weight": 1, "detector.weight": 2}
        >>> replace_own(state, "enhancer.", {"bias": 3})
        >>> state
        {'detector.weight': 2, 'enhancer.bias': 3}
    """
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    state_dict.update({prefix + name: tensor for name, tensor in own.items()})


def _converted(model: nn.Module, state: dict[str, Tensor], places: Collection[str]) -> dict[str, Tensor]:
    place = next((each for each in places if _PLACE.fullmatch(each)), None)
    if place == _WRAPPERS_ENHANCER:
        return _for_wrapper(state)
    own, kind = model.state_dict(), type(model).__name__
    if _is_wrapped(state, own):
        if not places:
            raise CheckpointError(
                "the checkpoint is that of a model with a detector inside (an EnhancedDetector, a tracker), and this "
                f"{kind} is a plain detector. {_APART}; the plain config loads 'detector.pth'."
            )
        state = _unwrapped(state, place) if place else state
    elif place:
        state = {_PREPROCESSORS.sub(place, name): tensor for name, tensor in state.items()}
    known = own if place is None else {*own, *(name for name in state if name.startswith(place))}
    lost = [name for name in state if _ENHANCER.match(name) and name not in known]
    # Enhancers at other places belong to inner wrappers, which rename tensors themselves.
    if lost and (place or not places):
        raise CheckpointError(
            f"the checkpoint has an enhancer's weights ({lost[0]}), and this {kind} has no place for them: they would "
            f"be left out. {_APART}; the plain config loads 'detector.pth', and an 'Enhance' transform loads "
            "'enhancer.safetensors' as its checkpoint."
        )
    return state


def _is_wrapped(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint is that of a wrapper of this model. The model may be a wrapper or a tracker itself."""
    if any(name.startswith(_WRAPPERS_ENHANCER) for name in own):
        return False
    roots = {name.split(".")[0] for name in state}
    inner = {name.removeprefix(WRAPPED) for name in state if name.startswith(WRAPPED)}
    return roots >= {"detector", "enhancer"} or len(inner & own.keys()) > len(state.keys() & own.keys())


def _for_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a checkpoint with its enhancer in the data preprocessor to the names of an ``EnhancedDetector``."""
    if not any(_PREPROCESSORS.match(name) for name in state):
        return state
    return {
        _PREPROCESSORS.sub(_WRAPPERS_ENHANCER, name) if _PREPROCESSORS.match(name) else WRAPPED + name: tensor
        for name, tensor in state.items()
    }


def _unwrapped(state: dict[str, Tensor], place: str) -> dict[str, Tensor]:
    """Rename the checkpoint of an ``EnhancedDetector`` for a model with the enhancer in its data preprocessor."""
    converted = {}
    for name, tensor in state.items():
        root = name.split(".")[0]
        if root == "fusion":
            raise CheckpointError(
                f"the checkpoint joins the raw and the enhanced picture by a learned fusion ({name}), which only an "
                "EnhancedDetector has"
            )
        # Losses are needed only in training, so their tensors are dropped.
        if root == "enhancer":
            converted[place + name.removeprefix(_WRAPPERS_ENHANCER)] = tensor
        elif root != "losses":
            converted[name.removeprefix(WRAPPED)] = tensor
    return converted
