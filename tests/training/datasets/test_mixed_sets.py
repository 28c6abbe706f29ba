"""``MixedSets`` draws from its parts by their shares, covers them, and depends on nothing but the draw."""

from __future__ import annotations

import math
from collections import Counter

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch

from llie_preproc.registry import DATASETS
from tests.support.made_trees import pixels_of, save
from training.datasets import Draw, InfiniteDrawSampler, MixedSets, PairedFolders, SynthesisedPairs

PARTS = [["a0"], [f"b{i}" for i in range(40)], [f"c{i}" for i in range(5)]]


def test_sets_are_drawn_by_their_shares_whatever_their_lengths():
    mixed, number = MixedSets(PARTS, shares=[3, 1, 1.0]), 1500
    assert len(mixed) == 46
    items = [mixed[Draw(0, seed)] for seed in range(number)]
    counts = Counter(item[0] for item in items)
    for name, share in (("a", 0.6), ("b", 0.2), ("c", 0.2)):
        assert abs(counts[name] - share * number) < 4 * math.sqrt(number * share * (1 - share))
    # Within a set, all items are equally likely; the five of the last set are expected 60 times each.
    of_last = Counter(item for item in items if item[0] == "c")
    assert all(abs(of_last[item] - counts["c"] / 5) < 4 * math.sqrt(60) for item in PARTS[2])
    assert set(items) == {item for part in PARTS for item in part}


def test_the_index_does_not_choose_the_item():
    mixed = MixedSets(PARTS, shares=[1, 1, 1])
    for seed in range(20):
        assert len({mixed[Draw(index, seed)] for index in range(46)}) == 1
    assert len({mixed[Draw(3, seed)] for seed in range(200)}) > 20


def test_a_plain_index_continues_the_random_stream():
    mixed = MixedSets(PARTS, shares=[1, 1, 1])
    torch.manual_seed(0)
    first = [mixed[0] for _ in range(30)]
    torch.manual_seed(0)
    assert [mixed[5] for _ in range(30)] == first
    assert len(set(first)) > 5


@pytest.fixture
def folders(tmp_path):
    """Two folders of day pictures of different sizes, three and one."""
    for i in range(3):
        save(tmp_path / "many" / f"{i}.png", pixels_of(i, 12, 10))
    save(tmp_path / "one" / "0.png", pixels_of(9, 8, 6))
    return tmp_path


def configs(folders, **options):
    return [
        {"type": "llie_preproc.SynthesisedPairs", "folder": str(folders / name), **options} for name in ("many", "one")
    ]


def test_a_draw_alone_decides_a_picture_and_its_darkness(folders):
    crop = [{"type": "llie_preproc.PairedRandomCrop", "size": 6}]
    mixed = DATASETS.build(
        {"type": "llie_preproc.MixedSets", "datasets": configs(folders, transforms=crop), "shares": [0.5, 0.5]}
    )
    seen = set()
    for seed in range(12):
        first, again = mixed[Draw(0, seed)], mixed[Draw(2, seed)]
        assert first["data_samples"].img_path == again["data_samples"].img_path
        assert torch.equal(first["inputs"], again["inputs"])
        seen.add(first["inputs"].numpy().tobytes())
    assert len(seen) == 12
    sampler = iter(InfiniteDrawSampler(mixed, seed=0))
    names = {mixed[next(sampler)]["data_samples"].img_path.removeprefix(f"{folders}/") for _ in range(60)}
    assert names == {"many/0.png", "many/1.png", "many/2.png", "one/0.png"}


def test_the_check_knows_the_sizes_of_all_parts(folders):
    sets = [SynthesisedPairs(str(folders / name)) for name in ("many", "one")]
    mixed = MixedSets(sets, shares=[1, 1])
    assert mixed.output_sizes()["image"].keys() == {(12, 10), (8, 6)}
    mixed.check()
    with pytest.raises(ValueError, match=r"comes out as 12x10 .* as 8x6"):
        mixed.check(batched=True)
    save(folders / "low" / "0.png", pixels_of(0, 12, 10))
    save(folders / "high" / "0.png", pixels_of(0, 12, 11))
    with pytest.raises(ValueError, match="expected 12x10"):
        MixedSets([sets[0], PairedFolders(str(folders / "low"), str(folders / "high"))], shares=[1, 1]).check()


@pytest.mark.parametrize("index", [-1, 46, Draw(46, 3)])
def test_an_index_outside_is_refused(index):
    with pytest.raises(IndexError, match=f"index {int(index)} is outside a set of 46"):
        MixedSets(PARTS, shares=[1, 1, 1])[index]


@pytest.mark.parametrize(
    ("datasets", "shares", "message"),
    [
        ([], [], "shares must have one number for each of at least one set, got 0 and 0"),
        (PARTS, [1, 1], "shares must have one number for each of at least one set, got 2 and 3"),
        (PARTS, [1, 0, 1], "each of shares must be a number above 0, got 0"),
        (PARTS, [1, -0.5, 1], "each of shares must be a number above 0, got -0.5"),
        (PARTS, [1, math.nan, 1], "each of shares must be a number above 0, got nan"),
        (PARTS, [1, True, 1], "each of shares must be a number above 0, got True"),
        (PARTS, 0.5, "shares must be a sequence of numbers, got 0.5"),
        (PARTS, "111", "shares must be a sequence of numbers, got '111'"),
    ],
)
def test_invalid_shares_are_refused(datasets, shares, message):
    with pytest.raises(ValueError, match=message):
        MixedSets(datasets, shares)
