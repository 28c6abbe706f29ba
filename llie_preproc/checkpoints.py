"""The one place that reads and writes weights.

Reading: safetensors, or ``torch.load(weights_only=True)``; a pickle that holds anything but tensors and plain
containers is refused, never run. Writing: a temporary file in the same folder, fsync, ``os.replace``.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from .errors import CheckpointError
from .files import atomic_path as atomic_path
from .files import atomic_write as atomic_write

WEIGHTS_DIR = Path(__file__).parent / "weights"

# Where trainers keep the weights inside a checkpoint, and what they put before the names.
_CONTAINERS = ("state_dict", "params_ema", "params", "model")
_PREFIXES = ("module.", "model.", "enhancer.")
# What torch.load raises on damaged bytes and on files of other kinds.
DAMAGE = (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, AssertionError, struct.error)


@dataclass(frozen=True)
class ShippedWeights:
    """An entry of ``llie_preproc/weights/index.json``.

    Attributes:
        name: What ``checkpoint=`` takes.
        enhancer: The registered network that the weights belong to.
        file: File name beside the index.
        sha256: Digest of the file.
        default: Used when no checkpoint is named.
        licence: Licence of the weights (the training data may restrict it further than the code's).
        recipe: How they were trained.
        data: What they were trained on.
        scores: Measured values, by name.
    """

    name: str
    enhancer: str
    file: str
    sha256: str
    default: bool
    licence: str
    recipe: str
    data: str
    scores: Mapping[str, float]

    @property
    def path(self) -> Path:
        return WEIGHTS_DIR / self.file


@dataclass(frozen=True)
class LoadReport:
    """What matched when a state dict was loaded into a module."""

    matched: int
    total: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.matched} of {self.total} tensors matched"
        for kind in ("missing", "unexpected", "mismatched"):
            keys = getattr(self, kind)
            if keys:
                text += f"; {len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        return text


def shipped_weights() -> list[ShippedWeights]:
    """Every set of weights that the package carries."""
    entries = json.loads((WEIGHTS_DIR / "index.json").read_text(encoding="utf-8"))
    return [ShippedWeights(name=name, **entry) for name, entry in entries.items()]


def default_weights(enhancer: str) -> ShippedWeights | None:
    """The shipped weights that ``build_enhancer(enhancer)`` loads, or None where there are none."""
    return next((w for w in shipped_weights() if w.enhancer == enhancer and w.default), None)


def read_state_dict(source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Args:
        source: The name of shipped weights, a path, or a URL. A URL ends in ``#sha256=<64 hex digits>``, a path or
            name may; the file's digest is compared with it. A downloaded file is kept in torch.hub's checkpoint
            folder, under its digest.

    Returns:
        Name to tensor, on the CPU, with the containers and prefixes that trainers add taken off.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Unsafe, damaged, empty, of a wrong digest, or a URL without a digest.
    """
    path = local_file(source)
    return _strip(_decode(path), path)


def local_file(source: str | os.PathLike[str]) -> Path:
    """Where a checkpoint lies on this machine: what :func:`read_state_dict` takes, downloaded where it is a URL.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Of a wrong digest, or a URL without a digest.
    """
    location, _, digest = str(source).partition("#sha256=")
    shipped = next((w for w in shipped_weights() if w.name == location), None)
    if shipped is not None:
        path, digest = shipped.path, digest or shipped.sha256
    elif location.startswith(("https://", "http://", "file://")):
        path = _download(location, digest)
    else:
        path = Path(location).expanduser()
    if not path.is_file():
        names = ", ".join(w.name for w in shipped_weights())
        raise FileNotFoundError(f"no checkpoint at {path}; shipped weights are: {names}")
    if digest and (found := file_sha256(path)) != digest.lower():
        raise CheckpointError(f"{path}: its sha256 is {found}, expected {digest}")
    return path


def load_checkpoint(module: nn.Module, source: str | os.PathLike[str], min_matched: float = 1.0) -> LoadReport:
    """Load a checkpoint into ``module``.

    Subnormal numbers become zero: weight decay leaves them behind, they add nothing, and CPUs compute with them up to a
    hundred times slower (the public Zero-DCE weights hold 19,266 of them).

    Args:
        module: Its parameters and buffers are overwritten where names and shapes match.
        source: As for :func:`read_state_dict`.
        min_matched: Least share of the module's tensors that must match, in (0, 1].

    Raises:
        CheckpointError: Too few tensors matched; nothing is loaded then. And what :func:`read_state_dict` raises.
    """
    state = rename_public_keys(read_state_dict(source), module)
    report = match_report(module, state)
    if not report.total:
        raise CheckpointError(f"{type(module).__name__} has no weights: {source} cannot be loaded into it")
    if report.matched < min_matched * report.total:
        raise CheckpointError(
            f"{source} is not a checkpoint of {type(module).__name__}: {report}. Public weights of the same network "
            "convert with 'llie convert'; of another network, name that one."
        )
    own = module.state_dict()
    fitting = {k: _without_subnormals(v) for k, v in state.items() if k in own and v.shape == own[k].shape}
    module.load_state_dict(fitting, strict=False)
    return report


def match_report(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Compare names and shapes of ``state`` with those of ``module``, loading nothing."""
    own = module.state_dict()
    shared = [k for k in own if k in state]
    mismatched = tuple(k for k in shared if own[k].shape != state[k].shape)
    return LoadReport(
        matched=len(shared) - len(mismatched),
        total=len(own),
        missing=tuple(k for k in own if k not in state),
        unexpected=tuple(k for k in state if k not in own),
        mismatched=mismatched,
    )


def rename_public_keys(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Rename the keys of a network's public release to ours, by the pairs in ``module.public_keys``.

    Keys that already are ours pass unchanged.
    """
    own = module.state_dict()
    rules: Sequence[tuple[str, str]] = getattr(module, "public_keys", ())
    return {key if key in own else _rename(key, rules): value for key, value in state.items()}


def save_state_dict(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> str:
    """Write ``state`` as safetensors, atomically, and return the file's sha256."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    data = save_safetensors(tensors, dict(metadata or {}))
    with atomic_write(path) as file:
        file.write(data)
    return hashlib.sha256(data).hexdigest()


def _without_subnormals(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 4:
        return tensor
    return torch.where(tensor.abs() < torch.finfo(tensor.dtype).tiny, 0, tensor)


def _rename(key: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _download(url: str, digest: str) -> Path:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise CheckpointError(f"{url}: a URL must end in '#sha256=' and the file's 64 hex digits")
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"{digest[:16].lower()}-{Path(url).name}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest.lower())
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{url}: {error}") from error
    return path


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, which may be larger than memory, as 64 hex digits.

    Raises:
        FileNotFoundError: There is no such file.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _decode(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(path.read_bytes())
        except SafetensorError as error:
            raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"the object {found.group(1)}" if found else "more than tensors"
        raise CheckpointError(
            f"{path} is refused: it holds {what}, and loading it could run code. Of a training run, load "
            "'enhancer.safetensors', which lies beside it; of another file that you trust, save the state dict alone "
            "(torch.save(checkpoint['state_dict'], path)) and load that."
        ) from error
    except DAMAGE as error:
        reason = (str(error).splitlines() or [""])[0]
        raise CheckpointError(f"{path} is no readable checkpoint ({type(error).__name__}: {reason})") from error


def _strip(checkpoint: Any, path: Path) -> dict[str, Tensor]:
    for name in _CONTAINERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(name), Mapping):
            checkpoint = checkpoint[name]
            break
    tensors = (
        {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if isinstance(checkpoint, Mapping)
        else {}
    )
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors by name, but {type(checkpoint).__name__}")
    for prefix in _PREFIXES:
        if any(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return tensors
