"""Finding an enhancer by what people call it: a name in any spelling, a config, a config file or a class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ..config_nodes import nodes, type_name
from ..errors import nearest, needs, one_line
from ..registry import MODELS, joined_locations, unusable_tables
from .base import Enhancer

_SCOPE = "llie_preproc"
_DOORS_OF_MODELS = ("EnhancedDetector", "EnhancedDetDataPreprocessor")
_CONFIG_SUFFIXES = (".py", ".json", ".yaml", ".yml")
_WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt")


def enhancer_classes() -> dict[str, type[Enhancer]]:
    """Every registered enhancer by its name, in sorted order.

    These are the enhancers of this package, of other packages that join, and of the caller. No detector is imported,
    because that takes seconds. A package that cannot be imported is left out; the message about an unknown name
    mentions it.

    Examples:
        >>> enhancer_classes()["PSENet"].__name__
        'PSENet'
    """
    _absent()
    return _registered()


def _registered() -> dict[str, type[Enhancer]]:
    """The enhancers that are registered so far, which include those of this package."""
    import_module(__package__)
    registered = sorted(MODELS._module_dict.items())
    return {k: v for k, v in registered if isinstance(v, type) and issubclass(v, Enhancer)}


@lru_cache(maxsize=1)
def _absent() -> tuple[str, ...]:
    """Import the enhancers of other packages, and return a sentence for each module that cannot be imported."""
    problems = []
    for location in joined_locations("enhancer"):
        try:
            import_module(location)
        except (Exception, SystemExit) as error:  # An unknown package may raise anything when it is imported.
            problems.append(f"{location} does not import: {type(error).__name__}: {one_line(error)}")
    return (*problems, *unusable_tables())


def enhancer_class(kind: object) -> tuple[str, type[Enhancer]]:
    """Name and class of the enhancer that the ``type`` of a config stands for.

    Args:
        kind: Name in any spelling, or a class, registered or not.

    Raises:
        KeyError: There is no such enhancer; the message has the nearest names and the list of all.
        TypeError: ``kind`` is neither a name nor a class of an enhancer.

    Examples:
        >>> enhancer_class("zero_dce")
        ('ZeroDCE', <class 'llie_preproc.enhancers.zero_dce.ZeroDCE'>)
    """
    if isinstance(kind, type) and issubclass(kind, Enhancer):
        # An unregistered class is known by its full name, so that it does not get the weights of a class of the same
        # name.
        own = f"{kind.__module__}.{kind.__qualname__}"
        return next((name for name, each in _registered().items() if each is kind), own), kind
    if not isinstance(kind, str):
        given = type(kind).__name__ if isinstance(kind, Enhancer) else repr(kind)
        raise TypeError(f"the type of an enhancer config must be an enhancer's name or class, got {given}")
    name = _registered_name(kind)
    if name is None and "@" in kind:
        raise KeyError(f"no enhancer {kind!r}: in a dict, weights are the value of 'checkpoint'")
    if name is None:
        raise KeyError(_unknown(kind))
    return name, _registered()[name]


def enhancer_config(given: str | os.PathLike[str] | Mapping | type[Enhancer]) -> dict[str, Any]:
    """Turn anything that names an enhancer into a config for :func:`llie_preproc.build_enhancer`.

    Args:
        given: One of these: a registered name in any spelling (``'PSENet'``, ``'psenet'``, ``'pse_net'``,
            ``'pse-net'``, ``'llie_preproc.PSENet'``); the path of a config file that holds an enhancer (in its model,
            its data preprocessor, its ``Enhance`` transforms, or as ``enhancer``); such a file of an installed package
            (``'package::file.py'``); one of these followed by ``@`` and weights, as for ``checkpoint`` of
            :func:`llie_preproc.build_enhancer`; a dict with ``type``; or a class.

    Returns:
        A dict whose ``type`` is a registered name or a class, with everything else that was given.

    Raises:
        KeyError: There is no such enhancer; the message has the nearest names and the list of all.
        FileNotFoundError: There is no such config file.
        TypeError: A config has no ``type``, or one that is neither a name nor a class.
        ValueError: A config file has no enhancer, weights are named twice, or nothing follows an ``@``.

    Examples:
        >>> enhancer_config("psenet")
        {'type': 'PSENet'}
        >>> enhancer_config("semi_llie@runs/iter_1000.pth")
        {'type': 'SemiLLIE', 'checkpoint': 'runs/iter_1000.pth'}
        >>> enhancer_config(dict(type="ps-net", width=2))
        Traceback (most recent call last):
        KeyError: "no enhancer 'ps-net'; is 'PSENet' meant? There are: ...
    """
    if isinstance(given, Mapping):
        config = dict(given)
        if "type" not in config:
            raise TypeError(f"an enhancer config needs 'type', got the keys {sorted(config)}")
    elif isinstance(given, str | os.PathLike):
        config = _of_text(os.fspath(given))
    else:
        config = {"type": given}
    name, kind = enhancer_class(config["type"])
    return {**config, "type": name if _registered().get(name) is kind else kind}


def _of_text(text: str) -> dict[str, Any]:
    """The config of ``NAME``, ``FILE``, ``NAME@WEIGHTS`` or ``FILE@WEIGHTS``; both paths may contain an ``@``."""
    parts = text.split("@")
    for end in (len(parts), *range(1, len(parts))):
        what, weights = "@".join(parts[:end]), "@".join(parts[end:])
        if _registered_name(what) or (_names_file(what) and _is_file(what)):
            config = _read(what) if _names_file(what) else {"type": what}
            return _with_weights(config, text, weights if end < len(parts) else None)
    if _names_file(parts[0]):
        raise FileNotFoundError(f"no config file {parts[0]}")
    if parts[0].lower().endswith(_WEIGHT_SUFFIXES):
        raise KeyError(f"no enhancer {parts[0]!r}: weights follow the name of their network, as in NAME@{parts[0]}")
    raise KeyError(f"{_unknown(parts[0])}, or a config file")


def _with_weights(config: dict[str, Any], text: str, weights: str | None) -> dict[str, Any]:
    if weights is None:
        return config
    if not weights:
        raise ValueError(f"{text!r} names no weights after the @")
    if config.get("checkpoint") is not None:
        raise ValueError(f"{text!r} names weights, but its config names {config['checkpoint']!r} already")
    return {**config, "checkpoint": weights}


def _names_file(text: str) -> bool:
    return _is_packaged(text) or text.lower().endswith(_CONFIG_SUFFIXES) or os.sep in text


def _is_file(text: str) -> bool:
    return _is_packaged(text) or Path(text).is_file()


def _is_packaged(text: str) -> bool:
    # In 'package::file.py@weights', the @ begins the weights.
    return "::" in text and "@" not in text


def _read(name: str) -> dict[str, Any]:
    with needs("reading a config file"):
        from ..config_files import read_config_file
    if (found := enhancer_in(read_config_file(name).to_dict(), name)) is None:
        raise ValueError(
            f"{name} has no enhancer: it needs an Enhance transform, or 'enhancer' (a name, or a dict with 'type') at "
            "the top, in the model, or in an EnhancedDetector or EnhancedDetDataPreprocessor of the model"
        )
    return found


def enhancer_in(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Find a config's enhancer and the weights beside it, at any place of the config; None if there is none.

    Args:
        config: Config that was read from a file, as a plain dict.
        name: Name of the file, for messages.

    Raises:
        ValueError: A value of ``enhancer`` names none, or the ``Enhance`` transforms have different ones; the message
            names the file.

    Examples:
        >>> enhancer_in({"model": {"enhancer": "psenet", "checkpoint": "weights.pth"}}, "config.py")
        {'checkpoint': 'weights.pth', 'type': 'PSENet'}
    """
    for holders in _places(config):
        found = [_held(each, name) for each in holders if isinstance(each.get("enhancer"), str | Mapping | type)]
        if found and any(each != found[0] for each in found):
            raise ValueError(f"{name} has Enhance transforms of several enhancers: name the one that is meant")
        if found:
            return found[0]
    return None


def _places(config: Mapping[str, Any]) -> Iterator[list[Mapping[str, Any]]]:
    """Places of a config that may hold its enhancer; the first place that holds one counts."""
    model = config.get("model")
    if isinstance(model, Mapping):
        # The model, its data preprocessor, and such parts inside other models, for example a semi-supervised one.
        doors = (each for each in nodes(model) if type_name(each) in _DOORS_OF_MODELS)
        yield from ([each] for each in (model, model.get("data_preprocessor"), *doors) if isinstance(each, Mapping))
    yield [each for each in nodes(config) if type_name(each) == "Enhance"]
    # The variable 'enhancer' of the file counts last, because options may have changed the places that were made from
    # it. A 'checkpoint' beside it does not belong to the enhancer.
    yield [{"enhancer": config.get("enhancer")}]


def _held(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    try:
        found = enhancer_config(holder["enhancer"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: enhancer: {one_line(error)}") from error
    beside = holder.get("checkpoint")
    if beside not in (None, "default"):
        return {"checkpoint": beside, **found}
    # The checkpoint 'default' means the same as no checkpoint.
    return {key: value for key, value in found.items() if (key, value) != ("checkpoint", "default")}


def _registered_name(text: str) -> str | None:
    """Registered name that a spelling stands for; None if it stands for none, or for several."""
    # Other packages are imported only for a name that is not registered yet.
    name = text.removeprefix(f"{_SCOPE}.")
    return _spelt(name, _registered()) or _spelt(name, enhancer_classes())


def _spelt(name: str, classes: Mapping[str, type[Enhancer]]) -> str | None:
    if name in classes:
        return name
    alike = [each for each, kind in classes.items() if _plain(each) == _plain(name) or name.lower() in kind.aliases]
    # A name of this package wins, so that a spelling means the same before and after another package is imported.
    own = [each for each in alike if classes[each].__module__.startswith(f"{_SCOPE}.")]
    return next((found[0] for found in (own, alike) if len(found) == 1), None)


def _unknown(name: str) -> str:
    classes = enhancer_classes()
    meant = nearest(name, classes, _plain)
    absent = "".join(f" ({problem})" for problem in _absent())
    return f"no enhancer {name!r}; {f'{meant} There' if meant else 'there'} are: {', '.join(classes)}{absent}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
