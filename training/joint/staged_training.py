"""The stages of joint training: first the detector alone, then detector and enhancer."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from llie_preproc.detection import EnhancedDetector
from llie_preproc.mm.runner_parts import unwrapped
from llie_preproc.registry import HOOKS


@HOOKS.register_module()
class StagedTraining(Hook):
    """A hook that first trains the detector of an ``EnhancedDetector`` alone, and then detector and enhancer.

    Before ``begin``, the enhancer is frozen: it is in evaluation mode, and its auxiliary losses are not computed. It
    gets no gradient, so the optimiser does not change it, not even by weight decay or momentum. The optimiser has the
    enhancer's parameters from the start, so the model must be built with ``trainable=True``, and distributed training
    needs ``find_unused_parameters=True``. A resumed run continues in its stage.

    Args:
        begin: Number of epochs or iterations in which the detector is trained alone.
        by_epoch: Whether ``begin`` counts epochs instead of iterations.

    Raises:
        TypeError: ``begin`` is not an integer.
        ValueError: ``begin`` is below 1. When training starts: ``begin`` is not before the end of the schedule, or
            counts epochs in a loop of iterations; or the model is not an ``EnhancedDetector`` that trains both parts.

    Examples:
        >>> StagedTraining(begin=4).by_epoch
        True
    """

    def __init__(self, begin: int, by_epoch: bool = True) -> None:
        if not isinstance(begin, int) or isinstance(begin, bool):
            raise TypeError(f"begin must be an integer, got {begin!r}")
        if begin < 1:
            raise ValueError(f"begin must be at least 1, got {begin}")
        self.begin, self.by_epoch = begin, by_epoch

    def before_train(self, runner: Runner) -> None:
        """Check the model and the schedule, and set the stage of the run, which may be a resumed one."""
        self._check_schedule(runner)
        _check_model(unwrapped(runner.model))
        self._set_stage(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the stage."""
        self._set_stage(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the stage."""
        self._set_stage(runner)

    def _set_stage(self, runner: Runner) -> None:
        model, done = unwrapped(runner.model), runner.epoch if self.by_epoch else runner.iter
        trainable = done >= self.begin
        if model.trainable == trainable:
            return
        model.trainable = trainable
        runner.logger.info(
            f"{'Epoch' if self.by_epoch else 'Iteration'} {done}: the enhancer "
            + ("trains with the detector" if trainable else f"is frozen until {self.begin}")
        )
        # This sets the mode of the enhancer too.
        runner.model.train()

    def _check_schedule(self, runner: Runner) -> None:
        end, unit = (runner.max_epochs, "epochs") if self.by_epoch else (runner.max_iters, "iterations")
        if self.begin >= end:
            hint = "; this loop counts iterations: set by_epoch=False" if self.by_epoch and end == 1 else ""
            raise ValueError(f"StagedTraining begins after {self.begin} {unit}, but training ends after {end}{hint}")


def _check_model(model: Any) -> None:
    if not isinstance(model, EnhancedDetector):
        raise ValueError(f"StagedTraining needs an EnhancedDetector, but the model is a {type(model).__name__}")
    if refusal := model.enhancer.training_refusal:
        raise ValueError(f"StagedTraining trains the enhancer, but {refusal}: build the model with trainable=True")
    if not model.train_detector:
        raise ValueError("StagedTraining trains the detector first: build the model with train_detector=True")
