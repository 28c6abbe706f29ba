"""Checkpoints of one door in the config of another: the same detector and enhancer, under other names.

=====================  =======================  ==================================
door                   the detector's tensors   the enhancer's
=====================  =======================  ==================================
none, or the pipeline  ``backbone...``          none: its own file
data preprocessor      ``backbone...``          ``data_preprocessor.enhancer...``
``EnhancedDetector``   ``detector.backbone...`` ``enhancer...``
=====================  =======================  ==================================

MMEngine, which loads what names fit and logs the rest, would leave a detector at its random weights, or an enhancer's
weights out. So names are converted where there is a place for both, and refused where there is none. A module cannot do
that for its parent, which is why :func:`llie_preproc.watched_models.watch_models` adds the conversion to MMEngine's
``BaseModel``, where each model of MMDetection begins to load, by ``load_state_dict`` and by MMEngine's own function
alike. It changes nothing for a checkpoint in whose names there is neither an enhancer nor a wrapped detector, and
leaves no trace in models or files.
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
# Where the doors have it, also inside models that hold detectors; others may call parts of their own an enhancer.
_ENHANCER = re.compile(r"((detector|student|teacher|module)\.)*(data_preprocessor\.)*enhancer\.")
_PREPROCESSORS = re.compile(r"^(data_preprocessor\.)+enhancer\.")
_PLACE = re.compile(r"(data_preprocessor\.)*enhancer\.")
_APART = "'llie split CHECKPOINT --out DIR' writes detector and enhancer apart"


def fit_names(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors, of whichever door, in the names of ``model``.

    Args:
        model: A detector, plain or with an enhancer.
        state: Name to tensor; not changed.

    Raises:
        CheckpointError: The checkpoint has an enhancer, and the model has no place for its weights; or a learned
            fusion, which only an ``EnhancedDetector`` has; or tensors of a wrong kind in a model with an enhancer.
    """
    places = [f"{name}." for name, module in model.named_modules() if isinstance(module, Enhancer)]
    if any(_NAMED.search(name) for name in state):
        state = _converted(model, state, places)
    if places:
        check_weights(state, model)
    return state


def own_names(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix): state_dict[name] for name in state_dict if name.startswith(prefix)}


def replace_own(state_dict: dict[str, Tensor], prefix: str, own: Mapping[str, Tensor]) -> None:
    """Put the tensors of :func:`own_names`, changed, in place of those that are there."""
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
                f"the checkpoint is of a model round a detector (an EnhancedDetector, a tracker), and this {kind} is "
                "plain. "
                f"{_APART}; the plain config loads 'detector.pth'."
            )
        state = _unwrapped(state, place) if place else state
    elif place:
        state = {_PREPROCESSORS.sub(place, name): tensor for name, tensor in state.items()}
    known = own if place is None else {*own, *(name for name in state if name.startswith(place))}
    lost = [name for name in state if _ENHANCER.match(name) and name not in known]
    # Enhancers at other places belong to wrappers inside, which convert names themselves.
    if lost and (place or not places):
        raise CheckpointError(
            f"the checkpoint has an enhancer's weights ({lost[0]}), and this {kind} has no place for them: they would "
            f"be left out. {_APART}; the plain config loads 'detector.pth', and an 'Enhance' transform takes "
            "'enhancer.safetensors' as its checkpoint."
        )
    return state


def _is_wrapped(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint is of a wrapper round this model, which another wrapper, or a tracker, may be itself."""
    if any(name.startswith(_WRAPPERS_ENHANCER) for name in own):
        return False
    roots = {name.split(".")[0] for name in state}
    inner = {name.removeprefix(WRAPPED) for name in state if name.startswith(WRAPPED)}
    return roots >= {"detector", "enhancer"} or len(inner & own.keys()) > len(state.keys() & own.keys())


def _for_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of an ``EnhancedDetector`` for a checkpoint with its enhancer in the data preprocessor."""
    if not any(_PREPROCESSORS.match(name) for name in state):
        return state
    return {
        _PREPROCESSORS.sub(_WRAPPERS_ENHANCER, name) if _PREPROCESSORS.match(name) else WRAPPED + name: tensor
        for name, tensor in state.items()
    }


def _unwrapped(state: dict[str, Tensor], place: str) -> dict[str, Tensor]:
    """The names of an ``EnhancedDetector``'s checkpoint where the enhancer is in the data preprocessor."""
    converted = {}
    for name, tensor in state.items():
        root = name.split(".")[0]
        if root == "fusion":
            raise CheckpointError(
                f"the checkpoint joins the raw and the enhanced picture by a learned fusion ({name}), which only an "
                "EnhancedDetector has"
            )
        # Losses are of training alone.
        if root == "enhancer":
            converted[place + name.removeprefix(_WRAPPERS_ENHANCER)] = tensor
        elif root != "losses":
            converted[name.removeprefix(WRAPPED)] = tensor
    return converted
