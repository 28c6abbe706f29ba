"""The one place that reads and writes weights.

Reading: safetensors, or ``torch.load(weights_only=True)``; a pickle that holds anything but tensors and plain
containers is refused, never run. Writing: a temporary file in the same folder, fsync, ``os.replace``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import re
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from .errors import CheckpointError
from .files import atomic_write, file_sha256, open_regular, read_bytes

WEIGHTS_DIR = Path(__file__).parent / "weights"

# Where trainers keep the weights inside a checkpoint, and what they put before the names.
_CONTAINERS = ("state_dict", "params_ema", "params", "model")
_PREFIXES = ("module.", "model.", "enhancer.")
# What torch.load raises on damaged bytes and on files of other kinds.
DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# PyTorch keeps its list of safe globals for the whole process.
_SAFE_GLOBALS = threading.RLock()


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
    """What of a module's tensors a state dict has, by names and shapes, and whether that is enough.

    Attributes:
        matched: Number of the module's tensors that the state dict has in the same shape.
        total: Number of the module's tensors.
        missing: Names of the module's tensors that the state dict does not have.
        unexpected: Names in the state dict that the module does not have.
        mismatched: Names in both, of another shape.
    """

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

    @property
    def whole(self) -> bool:
        """Whether names and shapes are all the same."""
        return not (self.missing or self.unexpected or self.mismatched)

    def without(self, left_out: Callable[[str], bool]) -> LoadReport:
        """The report without the differences that do not count.

        Args:
            left_out: Whether the tensor of a name need not fit, such as :func:`is_counter`.
        """
        kinds = (self.missing, self.unexpected, self.mismatched)
        missing, unexpected, mismatched = (tuple(k for k in names if not left_out(k)) for names in kinds)
        return LoadReport(self.matched, self.matched + len(missing) + len(mismatched), missing, unexpected, mismatched)

    def check(self, refusal: str, least: float | None = None, cure: str = "") -> None:
        """Raise where a checkpoint does not fit: whoever loads one asks here.

        Args:
            refusal: Beginning of the message, such as ``'a.pth is not a checkpoint of PSENet'``.
            least: Least share of the module's tensors that must match, in [0, 1]; None: all must, and there must be no
                others.
            cure: Sentence that ends the message.

        Raises:
            CheckpointError: Too little matches; the message says how much does.
        """
        if not (self.whole if least is None else self.matched >= least * self.total):
            raise CheckpointError(f"{refusal}: {self}. {cure}".removesuffix(". "))


def is_counter(name: str) -> bool:
    """Whether the tensor of a name counts batch norm's batches, which old checkpoints do not have."""
    return name.endswith("num_batches_tracked")


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
        raise FileNotFoundError(f"no checkpoint at {path}")
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
        CheckpointError: Too few tensors matched, or one is of a wrong kind or not finite; nothing is loaded then. And
            what :func:`read_state_dict` raises.
    """
    state = rename_public_keys(read_state_dict(source), module)
    check_weights(state, module, source)
    report = match_report(module, state)
    if not report.total:
        raise CheckpointError(f"{type(module).__name__} has no weights: {source} cannot be loaded into it")
    cure = "Public weights of the same network convert with 'llie convert'; of another network, name that one."
    report.check(f"{source} is not a checkpoint of {type(module).__name__}", min_matched, cure)
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
    return _fetch(url, f"{digest[:16].lower()}-{Path(url).name}", digest.lower())


def published_file(url: str) -> Path:
    """The file of a URL that OpenMMLab or PyTorch publishes weights at, in the folder where they keep it too.

    The file is compared with the digits of its SHA-256 that such names end in (``resnet50-0676ba61.pth``), where they
    do.

    Raises:
        CheckpointError: The URL cannot be fetched, or the digits differ.
    """
    name = Path(urlparse(url).path).name
    found = re.search(r"[-_]([0-9a-f]{8,64})\.[a-z]+$", name)
    digits = found.group(1) if found else ""
    path = _fetch(url, name, digits)
    if not file_sha256(path).startswith(digits):
        raise CheckpointError(f"{path}: its sha256 does not begin with {digits}, as the file's name says")
    return path


def _fetch(url: str, name: str, digest: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest or None, progress=False)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{url}: {error}") from error
    return path


def read_pickle(path: Path, answers: Sequence[Any] = ()) -> Any:
    """The content of a file that PyTorch wrote, by its restricted unpickler: the one call of ``torch.load`` here.

    Args:
        path: File to read.
        answers: Functions and classes that answer for names of a pickle beside PyTorch's own tensors and containers;
            ``__module__`` and ``__qualname__`` are the name. They stand alone on the list: what others have put on
            PyTorch's list for the process does not count here.

    Raises:
        CheckpointError: An archive that could hold more than the file, or one of PyTorch's tar format, whose reader
            ran code up to PyTorch 2.5.
        pickle.UnpicklingError: Other names in the pickle.
        Exception: One of :data:`DAMAGE`.
    """
    _check_archive(path)
    with _only_safe_globals(answers):
        return torch.load(path, map_location="cpu", weights_only=True)


@contextlib.contextmanager
def _only_safe_globals(answers: Sequence[Any]) -> Iterator[None]:
    with _SAFE_GLOBALS:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(list(answers))
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def _check_archive(path: Path) -> None:
    with open_regular(path) as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if not zipped and tarfile.is_tarfile(path):
        raise CheckpointError("the tar format of PyTorch before 0.1.10 is not read")
    if zipped:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        # Programs of TorchScript are compressed; torch.load refuses them by this entry.
        program = any(entry.filename.endswith("/constants.pkl") for entry in entries)
        if not program and any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError("it is compressed, which PyTorch's own files are not")
        if len({entry.header_offset for entry in entries}) < len(entries) or (
            not program and sum(entry.file_size for entry in entries) > path.stat().st_size
        ):
            raise CheckpointError("its records share bytes, so that it would hold more than the file")


def tensor_fault(tensor: Tensor) -> str:
    """What is wrong with a tensor that was read from a file, as the end of a sentence; nothing: empty.

    >>> tensor_fault(torch.zeros(2, 3))
    ''
    >>> tensor_fault(torch.zeros(1).expand(1000))
    'claims 1000 numbers, but 1 was stored'
    """
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"is a {type(tensor).__name__}"
    if vars(tensor):
        return f"has attributes: {', '.join(map(str, vars(tensor)))}"
    if kind := _unusable(tensor):
        return f"is {kind}"
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > stored:
        return f"claims {tensor.numel()} numbers, but {stored} {'was' if stored == 1 else 'were'} stored"
    return ""


def check_weights(
    state: Mapping[str, Any], module: nn.Module, source: str | os.PathLike[str] = "the checkpoint"
) -> None:
    """Raise for tensors that ``module`` must not be given, whatever their shapes.

    A floating tensor of the module takes float16, bfloat16, float32 and float64, others take their own kind of number;
    nothing takes sparse, quantised or meta tensors. Numbers must be finite, but where a buffer of the module holds the
    same infinity (a mask). Names that the module does not have are passed over.

    Args:
        state: Name to tensor, in the module's names.
        module: Module that is to be loaded.
        source: Name of the file, for the message.

    Raises:
        CheckpointError: There is such a tensor; the message names it.
    """
    own, buffers = module.state_dict(), {name for name, _ in module.named_buffers()}
    for name in own.keys() & state.keys():
        if isinstance(own[name], Tensor) and (fault := _misfit(state[name], own[name], name in buffers)):
            raise CheckpointError(f"{source}: the tensor {name} {fault}")


def _misfit(tensor: Any, own: Tensor, is_buffer: bool) -> str:
    if not isinstance(tensor, Tensor):
        return f"is a {type(tensor).__name__}"
    if kind := _unusable(tensor):
        return f"is {kind}"
    if tensor.dtype != own.dtype and _number(tensor) != _number(own):
        return f"is of {tensor.dtype}, which no {own.dtype} can be read from"
    finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
    if finite.all():
        return ""
    if is_buffer and tensor.shape == own.shape and (finite | (tensor == own.to(tensor.device))).all():
        return ""
    return f"is not finite: {int((~finite).sum())} of {tensor.numel()} numbers are NaN or infinite"


def _unusable(tensor: Tensor) -> str:
    """The kind of a tensor that has no numbers of its own in order; others: empty."""
    if tensor.is_meta:
        return "on the meta device, without numbers"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else f"sparse ({tensor.layout})"
    return ""


def _number(tensor: Tensor) -> object:
    """What dtypes have in common that may be read from each other; one that is alone is itself."""
    if tensor.dtype in _FLOATS:
        return "floating"
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    return "whole" if whole else "complex" if tensor.is_complex() else tensor.dtype


def reason_of(error: Exception) -> str:
    """What PyTorch's unpickler found, in one line without its advice to read the file by other means."""
    told = str(error).split("WeightsUnpickler error:")[-1].strip() or type(error).__name__
    return told.splitlines()[0].split(" was not an allowed global")[0]


def _decode(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(read_bytes(path))
        except SafetensorError as error:
            raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
    try:
        return read_pickle(path)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"the object {found.group(1)}" if found else "more than tensors"
        raise CheckpointError(
            f"{path} is refused: it holds {what}, and loading it could run code. Of a training run, load "
            "'enhancer.safetensors', which lies beside it; of another file that you trust, save the state dict alone "
            "(torch.save(checkpoint['state_dict'], path)) and load that."
        ) from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{path} is damaged, or no checkpoint that PyTorch wrote ({type(error).__name__}: {reason_of(error)})"
        ) from error


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
    for name, tensor in tensors.items():
        if fault := tensor_fault(tensor):
            raise CheckpointError(f"{path}: the tensor {name} {fault}")
    return tensors
