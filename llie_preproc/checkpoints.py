"""The only module that reads and writes weights.

It reads safetensors, and other files by ``torch.load(weights_only=True)``; a pickle that holds anything other than
tensors and plain containers is refused and never run. It writes atomically, with :mod:`llie_preproc.files`.
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

# Trainers keep the weights inside a checkpoint under these keys, and put these prefixes before the names.
_CONTAINERS = ("state_dict", "params_ema", "params", "model")
_PREFIXES = ("module.", "model.", "enhancer.")
# torch.load raises these for damaged bytes and for files of other kinds.
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
# PyTorch has one list of safe globals for the whole process, so only one thread at a time may change it.
_SAFE_GLOBALS = threading.RLock()


@dataclass(frozen=True)
class ShippedWeights:
    """An entry of ``llie_preproc/weights/index.json``.

    Attributes:
        name: Name for the argument ``checkpoint``.
        enhancer: Name of the registered network that the weights belong to.
        file: Name of the file beside the index.
        sha256: Digest of the file.
        default: Whether these weights are loaded if no checkpoint is named.
        licence: Licence of the weights (the training data may make it stricter than that of the code).
        recipe: Description of the training.
        data: Description of the training data.
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
    """A comparison of a state dict with a module by the names and shapes of their tensors.

    Attributes:
        matched: Number of the module's tensors that the state dict has in the same shape.
        total: Number of the module's tensors.
        missing: Names of the module's tensors that the state dict lacks.
        unexpected: Names in the state dict that the module lacks.
        mismatched: Names of tensors with different shapes in the two.

    Examples:
        >>> report = match_report(nn.Linear(2, 1), {"weight": torch.zeros(1, 2), "scale": torch.zeros(1)})
        >>> print(report)
        1 of 2 tensors matched; 1 missing (bias); 1 unexpected (scale)
        >>> report.whole
        False
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
        """Whether all names and shapes are the same."""
        return not (self.missing or self.unexpected or self.mismatched)

    def without(self, left_out: Callable[[str], bool]) -> LoadReport:
        """Copy the report without the differences that do not matter.

        Args:
            left_out: Function that says, by a tensor's name, whether the tensor may differ; for example
                :func:`is_counter`.
        """
        kinds = (self.missing, self.unexpected, self.mismatched)
        missing, unexpected, mismatched = (tuple(k for k in names if not left_out(k)) for names in kinds)
        return LoadReport(self.matched, self.matched + len(missing) + len(mismatched), missing, unexpected, mismatched)

    def check(self, refusal: str, least: float | None = None, cure: str = "") -> None:
        """Refuse a checkpoint that does not fit.

        Args:
            refusal: Beginning of the message, such as ``'a.pth is not a checkpoint of PSENet'``.
            least: Smallest share of the module's tensors that must match, in [0, 1]; None if all must match and no
                other tensors are allowed.
            cure: Sentence at the end of the message that says what helps.

        Raises:
            CheckpointError: Too few tensors match; the message says how many do.
        """
        if not (self.whole if least is None else self.matched >= least * self.total):
            raise CheckpointError(f"{refusal}: {self}. {cure}".removesuffix(". "))


def is_counter(name: str) -> bool:
    """Whether the name is that of a batch norm's counter of batches; old checkpoints have no such counters.

    Examples:
        >>> is_counter("backbone.bn1.num_batches_tracked")
        True
    """
    return name.endswith("num_batches_tracked")


def shipped_weights() -> list[ShippedWeights]:
    """List all weights that are shipped with the package.

    Examples:
        >>> [weights.name for weights in shipped_weights()][:2]
        ['psenet_sice', 'psenet_sice_smooth']
    """
    entries = json.loads((WEIGHTS_DIR / "index.json").read_text(encoding="utf-8"))
    return [ShippedWeights(name=name, **entry) for name, entry in entries.items()]


def default_weights(enhancer: str) -> ShippedWeights | None:
    """The shipped weights that ``build_enhancer(enhancer)`` loads, or None if there are none.

    Examples:
        >>> default_weights("PSENet").file
        'psenet_sice.safetensors'
        >>> default_weights("CollaBA") is None
        True
    """
    return next((w for w in shipped_weights() if w.enhancer == enhancer and w.default), None)


def read_state_dict(source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Args:
        source: Name of shipped weights, a path, or a URL. A URL must end in ``#sha256=<64 hex digits>``; a path or name
            may have the same ending. The file must have that digest. A downloaded file is kept in torch.hub's
            checkpoint folder, under its digest.

    Returns:
        Tensors by name, on the CPU, without the containers and prefixes that trainers add.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is unsafe, damaged or empty, or has another digest; or a URL has no digest.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.pth"
        >>> torch.save(dict(state_dict={"module.weight": torch.ones(2)}), path)
        >>> read_state_dict(path)
        {'weight': tensor([1., 1.])}
    """
    path = local_file(source)
    return _strip(_decode(path), path)


def local_file(source: str | os.PathLike[str]) -> Path:
    """Path of a checkpoint on this machine; a URL is downloaded.

    Args:
        source: Checkpoint, as for :func:`read_state_dict`.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file has another digest, or a URL has no digest.

    Examples:
        >>> local_file("psenet_sice").name
        'psenet_sice.safetensors'
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

    Subnormal numbers become zero. Weight decay leaves them behind, they contribute nothing, and CPUs compute up to a
    hundred times slower with them (the public Zero-DCE weights hold 19,266 of them).

    Args:
        module: Module whose parameters and buffers are overwritten if their names and shapes match.
        source: Checkpoint, as for :func:`read_state_dict`.
        min_matched: Smallest share of the module's tensors that must match, in (0, 1].

    Raises:
        CheckpointError: Too few tensors match, a tensor has a wrong kind or is not finite, or :func:`read_state_dict`
            refuses the file. Nothing is loaded then.
        FileNotFoundError: The file does not exist.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.safetensors"
        >>> _ = save_state_dict(nn.Linear(2, 1).state_dict(), path)
        >>> print(load_checkpoint(nn.Linear(2, 1), path))
        2 of 2 tensors matched
    """
    state = rename_public_keys(read_state_dict(source), module)
    check_weights(state, module, source)
    report = match_report(module, state)
    if not report.total:
        raise CheckpointError(f"{type(module).__name__} has no weights: {source} cannot be loaded into it")
    cure = "'llie convert' converts public weights of the same network. For other weights, name their network."
    report.check(f"{source} is not a checkpoint of {type(module).__name__}", min_matched, cure)
    own = module.state_dict()
    fitting = {k: _without_subnormals(v) for k, v in state.items() if k in own and v.shape == own[k].shape}
    module.load_state_dict(fitting, strict=False)
    return report


def match_report(module: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Compare the names and shapes in ``state`` with those of ``module``, without loading anything.

    Examples:
        >>> match_report(nn.Linear(2, 1), {}).missing
        ('weight', 'bias')
    """
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

    Keys that the module has already are not changed.

    Examples:
        >>> module = nn.Linear(2, 1)
        >>> module.public_keys = [(r"^fc\\.", "")]
        >>> list(rename_public_keys({"fc.weight": torch.zeros(1, 2), "bias": torch.zeros(1)}, module))
        ['weight', 'bias']
    """
    own = module.state_dict()
    rules: Sequence[tuple[str, str]] = getattr(module, "public_keys", ())
    return {key if key in own else _rename(key, rules): value for key, value in state.items()}


def save_state_dict(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> str:
    """Write ``state`` as safetensors, atomically, and return the file's sha256.

    Examples:
        >>> import tempfile
        >>> len(save_state_dict({"weight": torch.ones(2)}, Path(tempfile.mkdtemp()) / "a.safetensors"))
        64
    """
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
    """Download weights that OpenMMLab or PyTorch publishes, into the folder of PyTorch's own downloads.

    If the name of the file ends in digits of its SHA-256 (``resnet50-0676ba61.pth``), the file must have that SHA-256.

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
    """Read a file of ``torch.save`` with PyTorch's restricted unpickler. No other function calls ``torch.load``.

    Args:
        path: File to read.
        answers: Functions and classes that the pickle may name (by ``__module__`` and ``__qualname__``), beside
            PyTorch's own tensors and containers. No others are allowed, not even those on PyTorch's list of safe
            globals.

    Raises:
        CheckpointError: The file is an archive that could unpack to more than its size, or it has PyTorch's tar format.
            Reading that format could run code in PyTorch 2.5 and older.
        pickle.UnpicklingError: The pickle names something else.
        Exception: One of :data:`DAMAGE`.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.pth"
        >>> torch.save(dict(epoch=1), path)
        >>> read_pickle(path)
        {'epoch': 1}
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
        # Programs of TorchScript have this entry and may be compressed; torch.load refuses them itself.
        program = any(entry.filename.endswith("/constants.pkl") for entry in entries)
        if not program and any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError("it is compressed, which PyTorch's own files are not")
        if len({entry.header_offset for entry in entries}) < len(entries) or (
            not program and sum(entry.file_size for entry in entries) > path.stat().st_size
        ):
            raise CheckpointError("its records overlap, so they could unpack to more than the file's size")


def tensor_fault(tensor: Tensor) -> str:
    """Describe a fault of a tensor that was read from a file, as the end of a sentence; empty if there is none.

    Examples:
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
    """Refuse tensors that must not be loaded into ``module``, whatever their shapes.

    A floating point tensor of the module accepts float16, bfloat16, float32 and float64; other tensors accept their own
    kind of number. Sparse, quantised and meta tensors are refused. Numbers must be finite, unless a buffer of the
    module (a mask) has the same infinity at the same place. Names that the module does not have are ignored.

    Args:
        state: Tensors by the module's names.
        module: Module that the tensors are for.
        source: Name of the file, for the message.

    Raises:
        CheckpointError: A tensor is refused; the message names it.

    Examples:
        >>> check_weights({"weight": torch.tensor([[float("nan"), 0]])}, nn.Linear(2, 1), "a.pth")
        Traceback (most recent call last):
        llie_preproc.errors.CheckpointError: a.pth: the tensor weight is not finite: 1 of 2 numbers are NaN or infinite
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
        return f"has dtype {tensor.dtype}, which cannot be converted to {own.dtype}"
    return _not_finite(tensor, own if is_buffer else None)


def first_not_finite(state: Mapping[str, Any], intended: Mapping[str, Tensor] | None = None) -> str:
    """Describe the first tensor that has numbers that are not finite, as a clause; empty if there is none.

    Args:
        state: Tensors by name; other values are ignored.
        intended: Tensors by name whose infinities may stand at the same places in ``state``.

    Examples:
        >>> first_not_finite({"weight": torch.ones(2), "bias": torch.tensor([float("inf")])})
        'the tensor bias is not finite: 1 of 1 numbers are NaN or infinite'
        >>> first_not_finite({"mask": torch.tensor([float("inf")])}, {"mask": torch.tensor([float("inf")])})
        ''
    """
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and (fault := _not_finite(tensor, (intended or {}).get(name))):
            return f"the tensor {name} {fault}"
    return ""


def _not_finite(tensor: Tensor, intended: Tensor | None) -> str:
    finite = torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor)
    if not finite.all() and intended is not None and tensor.shape == intended.shape:
        finite |= tensor == intended.to(tensor.device)
    if finite.all():
        return ""
    return f"is not finite: {int((~finite).sum())} of {tensor.numel()} numbers are NaN or infinite"


def _unusable(tensor: Tensor) -> str:
    """The kind of a tensor that is not a plain array of numbers; empty for a plain array."""
    if tensor.is_meta:
        return "on the meta device, without numbers"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else f"sparse ({tensor.layout})"
    return ""


def _number(tensor: Tensor) -> object:
    """The kind of a tensor's numbers. Dtypes of the same kind may be converted into each other."""
    if tensor.dtype in _FLOATS:
        return "floating"
    whole = not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
    return "whole" if whole else "complex" if tensor.is_complex() else tensor.dtype


def reason_of(error: Exception) -> str:
    """The reason that PyTorch's unpickler gives, in one line and without its advice to read the file by other means.

    Examples:
        >>> reason_of(pickle.UnpicklingError("WeightsUnpickler error: Unsupported operand 149\\nTry another way."))
        'Unsupported operand 149'
    """
    told = str(error).split("WeightsUnpickler error:")[-1].strip() or type(error).__name__
    return told.splitlines()[0].split(" was not an allowed global")[0]


def _decode(path: Path) -> Any:
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(read_bytes(path))
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        return read_pickle(path)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f"the object {found.group(1)}" if found else "more than tensors"
        raise CheckpointError(
            f"{path} is refused: it holds {what}, and loading it could run code. If it is from a training run, load "
            "'enhancer.safetensors' beside it. If it is another file that you trust, save only its state dict "
            "(torch.save(checkpoint['state_dict'], path)) and load that."
        ) from error
    except DAMAGE as error:
        raise CheckpointError(
            f"{path} is damaged, or not a checkpoint that PyTorch wrote ({type(error).__name__}: {reason_of(error)})"
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
        raise CheckpointError(
            f"{path} must hold tensors by name, but has none (it holds a {type(checkpoint).__name__})"
        )
    for prefix in _PREFIXES:
        if any(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    for name, tensor in tensors.items():
        if fault := tensor_fault(tensor):
            raise CheckpointError(f"{path}: the tensor {name} {fault}")
    return tensors
