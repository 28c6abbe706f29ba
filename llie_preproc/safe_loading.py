"""MMEngine's loading of checkpoints, through this package's readers.

MMEngine reads a file that PyTorch's restricted unpickler refuses by the unrestricted one, which runs what is in it, and
URLs by that one alone. Inside :func:`safe_loading` all that it loads, ``load_from`` and ``init_cfg`` alike, is read by
:func:`llie_preproc.mm.runner_parts.read_checkpoint`. The commands of this project run inside it, and so do the
``init_weights`` of its classes, with all that is inside of them. Importing this package changes nothing of MMEngine's
loading elsewhere.
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

# Where the names of MMEngine's and torchvision's tables lie, and what configs of MMDetection name by its URL.
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
    """Inside, MMEngine reads no checkpoint but by PyTorch's restricted unpickler, whatever it is named by.

    It reads files, and URLs that end in ``#sha256=<64 hex digits>``. Names of tables (``torchvision://resnet50``) and
    URLs of :data:`PUBLISHERS` need no digest, because MMDetection's configs name backbones so: such a file is compared
    with the digits in its name, and read by the same reader. Every other scheme is refused.

    The loaders are MMEngine's for the whole process: threads that load something else meanwhile do so safely too.
    """
    before = dict(CheckpointLoader._schemes)
    CheckpointLoader.register_scheme(list(before), load_from_restricted, force=True)
    try:
        yield
    finally:
        CheckpointLoader._schemes = type(CheckpointLoader._schemes)(before)


def load_from_restricted(filename: str, map_location: Any = None) -> dict[str, Any]:
    """MMEngine's loader of every scheme inside :func:`safe_loading`; tensors are on the CPU.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Unsafe or damaged, a URL without its digest, a name or scheme that is not known.
    """
    checkpoint = read_checkpoint(_file_of(filename))
    if all(isinstance(value, Tensor) for value in checkpoint.values()):
        # Hooks of MMEngine's look for it.
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
    # A table of the user's own may have files.
    return published_file(table[key]) if "://" in table[key] else local_file(table[key])


class SafeInit:
    """Mixin, before a class of MMEngine's: weights that ``init_cfg`` names, at any depth, are read safely."""

    def init_weights(self) -> None:
        """Initialise, as MMEngine does.

        Raises:
            FileNotFoundError: No file of an ``init_cfg`` of the type ``'Pretrained'``.
            CheckpointError: The file is unsafe or damaged, or a URL without its digest.
        """
        with safe_loading():
            super().init_weights()  # type: ignore[misc]


class CheckLoadedWeights(Hook):
    """Refuses weights that are not finite, or of a wrong kind of number, whatever model loads them."""

    priority = "HIGHEST"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Check the weights, and their moving averages.

        Raises:
            CheckpointError: There are such; the message names a tensor.
        """
        model = unwrapped(runner.model)
        for key in ("state_dict", "ema_state_dict"):
            state = checkpoint.get(key) or {}
            check_weights({name.removeprefix("module."): state[name] for name in state}, model)


@contextlib.contextmanager
def _ended_workers(runner: Runner) -> Iterator[None]:
    """End the workers of data loaders at the end.

    A loader keeps them for the next epoch, and a Runner is part of a reference cycle. Where the garbage collector comes
    upon the loader, the queues to the workers are gone, and PyTorch waits for each worker in vain, for five seconds.
    """
    try:
        yield
    finally:
        loops: list[Any] = [runner._train_loop, runner._val_loop, runner._test_loop]
        for owner in (getattr(loop, name, None) for loop in loops for name in ("dataloader_iterator", "dataloader")):
            if owner is not None and hasattr(owner, "_iterator"):
                owner._iterator = None


class SafeRunner(Runner):
    """MMEngine's Runner, inside :func:`safe_loading` for whatever it loads, and with a console for warnings alone.

    The processes that load its data end with each training, validation and test.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with safe_loading():
            super().__init__(*args, **kwargs)
        self.register_hook(CheckLoadedWeights())

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        """Build MMEngine's logger, which writes all to its file and warnings alone to the console."""
        return only_warn(super().build_logger(*args, **kwargs))

    def train(self) -> Any:
        """Train, as MMEngine does."""
        with safe_loading(), _ended_workers(self):
            return super().train()

    def val(self) -> dict:
        """Validate, as MMEngine does."""
        with safe_loading(), _ended_workers(self):
            return super().val()

    def test(self) -> dict:
        """Test, as MMEngine does."""
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
            map_location: Not used: tensors are read on the CPU, and copied to where the parameters are.
            strict: Refuse names that are missing or unknown in any part; the ``EnhancedDetector`` has a stricter
                setting of its own for the detector's.
            revise_keys: Regular expressions of names, and what replaces them.

        Raises:
            FileNotFoundError: No such file.
            CheckpointError: Damaged, unsafe, not finite, or of another model; the message names the file.
        """
        # The published files that need no digest are of configs, not of runs.
        path = local_file(filename)
        try:
            with safe_loading():
                return super().load_checkpoint(str(path), map_location, strict, list(revise_keys))
        except CheckpointError as error:
            if str(path) in str(error):
                raise
            raise CheckpointError(f"{path}: {error}") from error
