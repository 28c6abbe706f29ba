"""``derive_seed`` gives different seeds, and ``own_random_state`` does not change the caller's random numbers."""

from __future__ import annotations

import random

import numpy as np
import torch

from llie_preproc.seeds import derive_seed, own_random_state


def test_different_parts_give_different_seeds():
    seeds = {derive_seed(*parts) for parts in [(0, 0), (0, 1), (1, 0), (0,), (0, 0, 0)]}
    assert len(seeds) == 5


def test_the_callers_random_numbers_continue():
    def drawn() -> list[float]:
        return [float(torch.rand(())), float(np.random.rand()), random.random()]

    for module in (torch.manual_seed, np.random.seed, random.seed):
        module(5)
    expected = [drawn(), drawn()]
    for module in (torch.manual_seed, np.random.seed, random.seed):
        module(5)
    first = drawn()
    with own_random_state(8):
        inside = drawn()
    assert [first, drawn()] == expected
    with own_random_state(8):
        assert drawn() == inside
