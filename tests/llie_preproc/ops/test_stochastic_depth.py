"""``StochasticDepth`` draws and computes what torchvision's ``stochastic_depth`` does."""

import pytest
import torch
from torchvision.ops import stochastic_depth

from llie_preproc.ops import StochasticDepth


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(64, 3), (16, 2, 3, 4)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_draws_and_results_equal_torchvisions(p, shape, training, dtype):
    x = torch.randn(shape, dtype=dtype)
    layer = StochasticDepth(p).train(training)
    torch.manual_seed(7)
    expected = stochastic_depth(x, p, "row", training)
    following = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(layer(x), expected)
    assert torch.equal(torch.rand(1), following)
