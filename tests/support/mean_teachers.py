"""Batches for the semi-supervised mean teacher, and the progress of its training."""

from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement

from tests.support import random_pictures

TERMS = ["loss_l1", "loss_perceptual", "loss_gradient", "loss_adversarial", "loss_consistency", "loss_contrastive"]


def at(epoch, last=200, iterations=7):
    """Tell MMEngine's message hub that the training is at ``epoch`` of ``last`` epochs."""
    hub = MessageHub.get_current_instance()
    hub.update_info("iter", epoch * iterations)
    hub.update_info("max_iters", last * iterations)


def images(seed=0, count=2):
    """``(count, 3, 32, 32)`` in [0, 1)."""
    return random_pictures.images(32, 32, count, seed)


def samples(count=2, **left_out):
    """Samples with a target, an unpaired picture and its strong view, without the fields named in ``left_out``."""
    fields = {"target": images(1, count), "unpaired": 0.2 * images(2, count), "strong": 0.2 * images(3, count)}
    fields = {k: (255 * v).byte() for k, v in fields.items() if k not in left_out}
    return [BaseDataElement(**{k: v[i] for k, v in fields.items()}) for i in range(count)]


def untouched(module):
    """Whether the gradient of every parameter is missing or zero."""
    return all(p.grad is None or not p.grad.any() for p in module.parameters())
