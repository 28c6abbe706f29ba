"""Letting MMEngine load checkpoints with this package's safe readers.

If PyTorch's restricted unpickler refuses a file, MMEngine reads it with the unrestricted one, which runs code of the
file. It reads URLs only with the unrestricted one. Inside :func:`safe_loading`, all that MMEngine loads, by
``load_from`` or ``init_cfg``, is read by :func:`llie_preproc.mm.runner_parts.read_checkpoint`. The commands of this
project run inside :func:`safe_loading`, and so does ``init_weights`` of its classes with all their parts. Importing
this package does not change how MMEngine loads elsewhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoints import check_weights, local_file, published_file
from .errors import CheckpointError, needs

with needs("llie_preproc.safe_loading"):
    from mmengine.hooks import Hook
    from mmengine.runner import CheckpointLoader, Runner
    from mmengine.runner.checkpoint import (
        get_deprecated_model_names,
        get_external_models,
        get_mmcls_models,
        get_torchvision_models,
    )

from torch import Tensor

from .mm.console import only_warn
from .mm.runner_parts import read_checkpoint, unwrapped

# The tables of MMEngine and torchvision, and the configs of MMDetection, name files at these addresses.
PUBLISHERS = (
    "https://download.openmmlab.com/",
    "https://mmassets.onedl.ai/",
    "https://download.pytorch.org/models/",
)
_TABLES: dict[str, Callable[[], Mapping[str, str]]] = {
    "torchvision://": get_torchvision_models,
    "modelzoo://": get_torchvision_models,
    "open-mmlab://": get_external_models,
    "openmmlab://": get_external_models,
    "mmcls://": get_mmcls_models,
}
_OF_DIGEST = ("https://", "http://", "file://")
_BACKBONE = "backbone."


@contextlib.contextmanager
def safe_loading() -> Iterator[None]:
    """Within the block, let MMEngine read all checkpoints with PyTorch's restricted unpickler.

    It reads files, and URLs that end in ``#sha256=<64 hex digits>``. Names of tables (``torchvision://resnet50``) and
    URLs of :data:`PUBLISHERS` need no digest, because MMDetection's configs name backbones in this way; such a file is
    compared with the digits in its name, and read by the same reader. All other schemes are refused.

    MMEngine's loaders are changed for the whole process, so that other threads load safely during the block too.

    Examples:
        >>> with safe_loading():
        ...     CheckpointLoader.load_checkpoint("s3://bucket/a.pth", logger=None)
        Traceback (most recent call last):
        llie_preproc.errors.CheckpointError: s3://bucket/a.pth: checkpoints of this kind of address are not read; ...
    """
    before = dict(CheckpointLoader._schemes)
    CheckpointLoader.register_scheme(list(before), load_from_restricted, force=True)
    try:
        yield
    finally:
        CheckpointLoader._schemes = type(CheckpointLoader._schemes)(before)


def load_from_restricted(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load a checkpoint onto the CPU; this is MMEngine's loader for every scheme inside :func:`safe_loading`.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is unsafe or damaged, a URL has no digest, or a name or scheme is unknown.
    """
    checkpoint = read_checkpoint(_file_of(filename))
    if all(isinstance(value, Tensor) for value in checkpoint.values()):
        # Hooks of MMEngine need this key.
        checkpoint = {"state_dict": checkpoint}
    if filename.startswith("mmcls://"):
        state = checkpoint["state_dict"]
        checkpoint = {"state_dict": {k.removeprefix(_BACKBONE): state[k] for k in state if k.startswith(_BACKBONE)}}
    return checkpoint


def _file_of(name: str) -> Path:
    scheme = next((scheme for scheme in _TABLES if name.startswith(scheme)), None)
    if scheme is not None:
        return _file_of_table(name, scheme)
    if name.startswith(PUBLISHERS) and "#sha256=" not in name:
        return published_file(name)
    if "://" in name and not name.startswith(_OF_DIGEST):
        raise CheckpointError(f"{name}: checkpoints of this kind of address are not read; give the path of a file")
    return local_file(name)


def _file_of_table(name: str, scheme: str) -> Path:
    table, key = _TABLES[scheme](), name.removeprefix(scheme)
    key = get_deprecated_model_names().get(key, key) if "mmlab" in scheme else key
    if key not in table:
        raise CheckpointError(f"{name}: MMEngine knows no weights of this name")
    # A user's own table may name files.
    return published_file(table[key]) if "://" in table[key] else local_file(table[key])


class SafeInit:
    """A mixin, placed before a class of MMEngine, that reads the weights of ``init_cfg`` safely, at any depth."""

    def init_weights(self) -> None:
        """Initialise the weights as MMEngine does.

        Raises:
            FileNotFoundError: The file of an ``init_cfg`` of the type ``'Pretrained'`` does not exist.
            CheckpointError: The file is unsafe or damaged, or a URL has no digest.
        """
        with safe_loading():
            super().init_weights()  # type: ignore[misc]


class CheckLoadedWeights(Hook):
    """A hook that refuses weights that are not finite or have a wrong kind of number, for any model."""

    priority = "HIGHEST"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the weights and their moving averages.

        Raises:
            CheckpointError: A tensor is refused; the message names it.
        """
        model = unwrapped(runner.model)
        for key in ("state_dict", "ema_state_dict"):
            state = checkpoint.get(key) or {}
            check_weights({name.removeprefix("module."): state[name] for name in state}, model)


@contextlib.contextmanager
def _ended_workers(runner: Runner) -> Iterator[None]:
    """End the workers of data loaders when the block ends.

    A loader keeps its workers for the next epoch, and a Runner is part of a reference cycle. When the garbage collector
    destroys the loader, the queues to the workers are gone already, and PyTorch waits five seconds for each worker.
    """
    try:
        yield
    finally:
        loops: list[Any] = [runner._train_loop, runner._val_loop, runner._test_loop]
        for owner in (getattr(loop, name, None) for loop in loops for name in ("dataloader_iterator", "dataloader")):
            if owner is not None and hasattr(owner, "_iterator"):
                owner._iterator = None


class SafeRunner(Runner):
    """MMEngine's Runner, but it loads everything inside :func:`safe_loading` and writes only warnings to the console.

    The processes that load its data end with each training, validation and test.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with safe_loading():
            super().__init__(*args, **kwargs)
        self.register_hook(CheckLoadedWeights())

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build MMEngine's logger, which writes everything to its file and only warnings to the console."""
        return only_warn(super().build_logger(*args, **kwargs))

    def train(self) -> Any:
        """Train as MMEngine does."""
        with safe_loading(), _ended_workers(self):
            return super().train()

    def val(self) -> dict:
        """Validate as MMEngine does."""
        with safe_loading(), _ended_workers(self):
            return super().val()

    def test(self) -> dict:
        """Test as MMEngine does."""
        with safe_loading(), _ended_workers(self):
            return super().test()

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r"^module\.", ""),),
    ) -> dict[str, Any]:
        """Load a file, or a URL that ends in ``#sha256=<digest>``.

        Args:
            filename: Checkpoint of this run, of another, or of the plain detector.
            map_location: Ignored: tensors are read on the CPU and copied to the device of the parameters.
            strict: Whether missing or unknown names in any part are refused; the ``EnhancedDetector`` has a stricter
                setting for the names of its detector.
            revise_keys: Regular expressions for names, and their replacements.

        Raises:
            FileNotFoundError: The file does not exist.
            CheckpointError: The file is damaged, unsafe or that of another model, or numbers are not finite; the
                message names the file.
        """
        # Only configs, and not runs, may name published files without a digest.
        path = local_file(filename)
        try:
            with safe_loading():
                return super().load_checkpoint(str(path), map_location, strict, list(revise_keys))
        except CheckpointError as error:
            if str(path) in str(error):
                raise
            raise CheckpointError(f"{path}: {error}") from error
