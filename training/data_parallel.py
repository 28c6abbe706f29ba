"""Training of one method in several processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mmengine.dist import all_reduce_params, broadcast, get_world_size
from torch import Tensor, nn

from llie_preproc.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class MethodDataParallel(nn.Module):
    """Distributed data parallel for the methods of :mod:`training.methods`.

    All processes start with the weights of rank 0. The methods average the gradients themselves, all at once before
    each optimiser step (:func:`average_gradients`). PyTorch's own wrapper does not support several optimisers, nor
    gradients with respect to chosen parameters, which CollaBA's best response needs.

    >>> from training.methods import SupervisedTraining
    >>> network = dict(type="IAMLUNet", width=4, depth=1)
    >>> method = SupervisedTraining(network, losses=dict(l1=dict(type="llie_preproc.L1Loss")))
    >>> MethodDataParallel(method).module is method
    True

    Args:
        module: :class:`~training.methods.base.TrainingMethod`, on its device.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module: Any = module
        for tensor in module.state_dict().values():
            broadcast(tensor, src=0)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Call the method's ``train_step``."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """Call the method's ``val_step``."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """Call the method's ``test_step``."""
        return self.module.test_step(data)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method."""
        return self.module(*args, **kwargs)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes. A parameter without a gradient is left out."""
    if get_world_size() > 1:
        average_tensors([p.grad for p in parameters if p.grad is not None])


def average_tensors(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place."""
    if get_world_size() > 1 and tensors:
        all_reduce_params(tensors, op="mean")
