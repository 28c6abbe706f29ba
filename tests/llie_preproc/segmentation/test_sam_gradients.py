"""With ``with_grad=True`` gradients reach the enhancer through SAM; without it none are recorded."""

from __future__ import annotations

import pytest
import torch
from segment_anything import SamPredictor

from llie_preproc.enhancers import Enhancer
from llie_preproc.enhancers.base import Capabilities
from llie_preproc.segmentation import (
    EnhancedSamPredictor,
)
from tests.support.sam_models import (
    picture,
    tiny_sam,
)


class _Gain(Enhancer):
    """An enhancer that gives ``gain * image``, enlarged by repeating pixels."""

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        self.capabilities = Capabilities(scale=scale, halo=0, precisions=(torch.float32,))
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        return self.gain * image.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


def projected(value: torch.Tensor) -> torch.Tensor:
    """A weighted sum that normalisation does not make constant."""
    return (value * torch.linspace(-1, 2, value.numel()).view_as(value).sin()).sum()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("oversize", ["resize", "crops"])
def test_gradients_reach_the_enhancer_through_encoder_and_decoder(scale, oversize):
    sam, enhancer = tiny_sam().requires_grad_(False), _Gain(scale)
    predictor = EnhancedSamPredictor(sam, enhancer, with_grad=True, oversize=oversize)
    image = picture(8, 40, 70)
    predictor.set_image(image)
    boxes = predictor.transform.apply_boxes_torch(torch.tensor([[10.0, 10, 60, 30]]), (40, 70))
    logits, iou, _ = predictor.predict_torch(None, None, boxes, return_logits=True)
    for value in (predictor.features, logits, iou):
        (gradient,) = torch.autograd.grad(projected(value), enhancer.gain, retain_graph=True)
        assert gradient.isfinite()
        assert gradient.abs() > 0
    with torch.no_grad():
        predictor.set_image(image)
        assert not predictor.features.requires_grad


def test_a_prediction_without_gradients_does_not_change_later_ones():
    enhancer, gradients = _Gain(), []
    boxes = torch.tensor([[5.0, 9, 55, 30]])
    for looks in (False, True):
        predictor = EnhancedSamPredictor(tiny_sam().requires_grad_(False), enhancer, with_grad=True, oversize="crops")
        predictor.set_image(picture(8, 40, 140))
        if looks:
            with torch.no_grad():
                predictor.predict_torch(None, None, boxes)
        logits, _, _ = predictor.predict_torch(None, None, boxes, return_logits=True)
        gradients += torch.autograd.grad(projected(logits), enhancer.gain)
    assert gradients[1] == gradients[0] != 0


def test_without_gradients_an_enhancer_in_training_mode_is_evaluated():
    class Doubling(_Gain):
        def forward(self, image):
            return super().forward(image) * (1 + self.training)

    sam, image = tiny_sam(), picture(9, 48, 64)
    plain, own = SamPredictor(sam), EnhancedSamPredictor(sam, Doubling().train())
    plain.set_image(image)
    own.set_image(image)
    assert torch.equal(own.features, plain.features)
    shown = torch.from_numpy(image).permute(2, 0, 1)[None]
    own.set_torch_image(shown, (48, 64))
    assert torch.equal(own.features, plain.features)
    assert own.enhancer.training


def test_the_gradient_is_that_of_the_unrounded_image():
    """The expected gradient is a finite difference of the same network without rounding, in float64."""
    sam, enhancer = tiny_sam().requires_grad_(False), _Gain()
    image = picture(9, 48, 64)
    predictor = EnhancedSamPredictor(sam, enhancer, with_grad=True)
    predictor.set_image(image)
    (gradient,) = torch.autograd.grad(projected(predictor.features), enhancer.gain)
    unit = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255

    def value(gain: float) -> float:
        levels = torch.nn.functional.pad(255 * gain * unit, (0, 0, 0, 16))
        sam.double()
        shown = (levels - sam.pixel_mean) / sam.pixel_std
        shown[..., 48:, :] = 0
        return float(projected(sam.image_encoder(shown)))

    expected = (value(1 + 1e-5) - value(1 - 1e-5)) / 2e-5
    assert float(gradient) == pytest.approx(expected, rel=2e-3)


def test_without_with_grad_nothing_is_recorded():
    predictor = EnhancedSamPredictor(tiny_sam(), _Gain())
    predictor.set_image(picture(1, 30, 40))
    assert not predictor.features.requires_grad
