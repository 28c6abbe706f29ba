"""Data sets of folders pair pictures by name, give the same item for the same draw, and are checked before training."""

import pickle
import re
import shutil

import cv2
import numpy as np
import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from llie_preproc.registry import DATASETS
from tests.support.made_trees import enlarged, pixels_of, save, save_pair
from training.datasets import (
    ConcatenatedSets,
    Draw,
    PairedFolders,
    PairedRandomCrop,
    PairedRandomResize,
    PairedResize,
    RandomDihedral,
    RandomFlip,
    SemiSupervisedSet,
    UnpairedFolder,
    seeded_by,
)
from training.datasets.base import load_tensor

CROP_AND_TURN = [{"type": "llie_preproc.PairedRandomCrop", "size": 7}, {"type": "llie_preproc.RandomDihedral"}]


@pytest.fixture
def folders(tmp_path):
    for i in range(5):
        save_pair(tmp_path / "low" / "sub" / f"{i}.png", tmp_path / "high" / "sub" / f"{i}.png", i, scale=2)
    for i in range(4):
        save(tmp_path / "night" / f"{i}.png", pixels_of(20 + i, 14, 14))
    return tmp_path


def paired(folders, **options):
    return PairedFolders(str(folders / "low"), str(folders / "high"), scale=2, **options)


def bytes_of(item):
    sample = item["data_samples"]
    fields = [item["inputs"], *(sample.get(k) for k in sorted(sample.keys()))]
    return b"".join(f.numpy().tobytes() for f in fields)


def test_folders_are_paired_by_name(folders):
    dataset = paired(folders)
    assert len(dataset) == 5
    dataset.check()
    for item in (dataset[i] for i in range(5)):
        low = item["inputs"].permute(1, 2, 0).numpy()
        assert np.array_equal(item["data_samples"].target.permute(1, 2, 0).numpy(), enlarged(255 - low, 2))
    (folders / "names.txt").write_text("sub/3.png\nsub/0.png\n")
    for names in (["sub/3.png", "sub/0.png"], str(folders / "names.txt"), folders / "names.txt"):
        chosen = paired(folders, names=names)
        assert [e["image"].name for e in chosen.entries] == ["3.png", "0.png"]
    with pytest.raises(FileNotFoundError, match=r"2 of 3 names .*sub/9\.png, 3\.png"):
        paired(folders, names=["sub/9.png", "sub/1.png", "3.png"])
    (folders / "names.txt").write_text("sub/8.png\n")
    with pytest.raises(FileNotFoundError, match=r"names\.txt: sub/8\.png"):
        paired(folders, names=str(folders / "names.txt"))
    with pytest.raises(FileNotFoundError, match=r"^names must be a list, or a text file .* no file .*/none\.txt$"):
        paired(folders, names=folders / "none.txt")
    with pytest.raises(FileNotFoundError, match=r"^names must be .* no file sub/1\.png$"):
        paired(folders, names="sub/1.png")
    with pytest.raises(FileNotFoundError, match=r"sub/9, sub/3\.jpg, \.; did you mean sub/3\.png\?"):
        paired(folders, names=["sub/1", "sub/9", "sub/3.jpg", "."])
    with pytest.raises(ValueError, match="scale"):
        PairedFolders(str(folders / "low"), str(folders / "high"), scale=0)
    (folders / "high" / "sub" / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"low/sub/2\.png has no pair: there is no .*high/sub/2\.png"):
        paired(folders)
    assert len(paired(folders, names=["sub/3.png"])) == 1


def test_a_name_without_its_suffix_is_that_of_one_picture(folders):
    assert [e["image"].name for e in paired(folders, names=["sub/3", "sub/0.png"]).entries] == ["3.png", "0.png"]
    high = str(folders / "high/sub")
    assert [e["image"].name for e in PairedFolders(high, high, names=[3, 0]).entries] == ["3.png", "0.png"]
    shutil.copy(folders / "low/sub/3.png", folders / "low/sub/3.bmp")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 names .*: sub/3; did you mean sub/3\.(png|bmp)\?$"):
        paired(folders, names=["sub/3"])


def test_a_pair_may_differ_in_its_suffixes(folders):
    low, high = folders / "low/sub", folders / "high/sub"
    (low / "4.png").rename(low / "4.webp")
    assert paired(folders).entries[-1] == {"image": low / "4.webp", "target": high / "4.png"}
    # The equal name comes first; two others leave open which one is meant.
    shutil.copy(high / "4.png", high / "4.webp")
    assert paired(folders).entries[-1]["target"] == high / "4.webp"
    (high / "4.webp").rename(high / "4.bmp")
    with pytest.raises(FileNotFoundError, match=r"low/sub/4\.webp has no pair: there is no .*high/sub/4\.webp"):
        paired(folders)
    # A dot need not begin a suffix.
    (high / "4.bmp").rename(high / "4.1.bmp")
    assert paired(folders).entries[-1]["target"] == high / "4.png"


def test_an_input_may_be_reduced(folders):
    dataset = paired(folders, reduce_input=2, transforms=[PairedRandomCrop((8, 6))])
    sizes = {field: list(found) for field, found in dataset.output_sizes().items()}
    assert sizes == {"image": [(4, 3)], "target": [(16, 12)]}
    item = dataset[Draw(0, 1)]
    # The reference is the negative of the input, with 2x2 pixels for each.
    blocks = 255 - item["data_samples"].target.numpy().reshape(3, 3, 4, 4, 4).astype(float)
    assert np.abs(item["inputs"].numpy() - blocks.mean(axis=(2, 4))).max() <= 0.5
    odd = paired(folders, reduce_input=3)
    for use in (odd.check, lambda: odd[0]):
        with pytest.raises(ValueError, match="12x10 must be multiples of reduce_input, which is 3"):
            use()


@pytest.mark.parametrize("names", [None, ["a.png"]])
def test_empty_and_missing_folders_are_refused(tmp_path, names):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures below"):
        UnpairedFolder(str(tmp_path / "empty"), names=names)
    with pytest.raises(FileNotFoundError, match="no folder"):
        PairedFolders(str(tmp_path / "none"), str(tmp_path / "empty"), names=names)


def test_references_have_the_given_size_times_the_scale(folders):
    item = paired(folders, size=(6, 4))[0]
    path = folders / "low" / "sub" / "0.png"
    expected = cv2.resize(pixels_of(0), (6, 4), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(item["inputs"].permute(1, 2, 0), expected)
    assert torch.equal(item["inputs"], load_tensor(path, (6, 4)))
    assert item["data_samples"].target.shape == (3, 8, 12)
    assert paired(folders, size=8)[0]["data_samples"].target.shape == (3, 16, 16)
    with pytest.raises(ValueError, match="size must be"):
        paired(folders, size=(8, 0))


def test_the_same_draw_gives_the_same_item(folders):
    dataset = paired(folders, transforms=CROP_AND_TURN)
    first = bytes_of(dataset[Draw(2, 7)])
    torch.rand(13)
    dataset[Draw(1, 3)]
    before = torch.get_rng_state()
    assert bytes_of(dataset[Draw(2, 7)]) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert len({bytes_of(dataset[Draw(2, seed)]) for seed in range(30)}) > 20


def test_a_cropped_item_keeps_no_memory_of_the_whole_picture(folders):
    item = paired(folders, transforms=[PairedRandomCrop(2)])[0]
    assert item["inputs"].is_contiguous()
    assert item["inputs"].untyped_storage().nbytes() == 12
    assert item["data_samples"].target.untyped_storage().nbytes() == 48


def check_message(dataset):
    with pytest.raises(ValueError) as error:
        dataset.check()
    return str(error.value)


def test_the_check_names_small_pictures(folders):
    message = check_message(paired(folders, transforms=[PairedRandomCrop(11)]))
    assert message.startswith("5 of 5 pictures cannot be used")
    assert re.search(r"low/sub/0\.png: 12x10 is smaller than the crop of 11x11", message)
    assert message.endswith("and 2 more")
    paired(folders, transforms=[PairedRandomCrop(10)]).check()
    paired(folders, transforms=[PairedResize(280), PairedRandomCrop(256)]).check()
    paired(folders, size=(11, 11), transforms=[PairedRandomCrop(11)]).check()
    # The pictures are 12x10: half of it is too small for the crop, unless the resizing leaves it an edge of 8.
    small, fitting = PairedRandomResize((0.5, 2.0)), PairedRandomResize((0.5, 2.0), least=8)
    assert "6x5 is smaller than the crop of 8x8" in check_message(
        paired(folders, transforms=[small, PairedRandomCrop(8)])
    )
    paired(folders, transforms=[fitting, PairedRandomCrop(8)]).check(batched=True)
    # ``RandomDihedral`` may turn 12x10 into 10x12.
    paired(folders, transforms=[PairedRandomCrop((11, 10)), RandomDihedral()]).check()
    assert "11x10" in check_message(paired(folders, transforms=[RandomDihedral(), PairedRandomCrop((11, 10))]))


def test_the_check_names_pairs_of_wrong_sizes_despite_resizing(folders):
    save(folders / "high" / "sub" / "1.png", pixels_of(0, 20, 24))
    message = check_message(paired(folders, transforms=[PairedResize(8)]))
    assert message.startswith("1 of 5")
    assert re.search(r"low/sub/1\.png is 12x10 and its target .*high/sub/1\.png 20x24, expected 24x20", message)
    assert "1.png" in check_message(paired(folders, size=(8, 8)))


def test_the_check_names_files_without_a_picture(folders):
    (folders / "night" / "2.png").write_bytes(b"nothing")
    assert "2.png" in check_message(UnpairedFolder(str(folders / "night")))


def batch_message(dataset):
    dataset.check()
    with pytest.raises(ValueError, match="crop or resize them, or use a batch size of 1") as error:
        dataset.check(batched=True)
    return str(error.value)


def test_a_batch_needs_one_size(folders):
    paired(folders).check(batched=True)
    save_pair(folders / "low" / "sub" / "7.png", folders / "high" / "sub" / "7.png", 7, scale=2)
    save(folders / "low" / "sub" / "8.png", pixels_of(8, 14, 11))
    save(folders / "high" / "sub" / "8.png", pixels_of(8, 28, 22))
    message = batch_message(paired(folders))
    assert re.search(r"image \S*low/sub/0\.png comes out as 12x10 and \S*low/sub/8\.png as 14x11: crop", message)
    assert "9x8" in batch_message(paired(folders, transforms=[PairedResize(factor=0.75)]))
    for options in (
        {"size": 8},
        {"transforms": [PairedRandomCrop((9, 8))]},
        {"transforms": [RandomFlip(), PairedResize((9, 8))]},
        {"transforms": [RandomDihedral(), PairedRandomCrop((9, 8))]},
        {"names": ["sub/0.png", "sub/7.png"]},
        # The sizes that an unknown transform gives are not known, so they are not checked.
        {"transforms": [lambda pictures: pictures]},
    ):
        paired(folders, **options).check(batched=True)


def test_turned_rectangles_have_two_sizes(folders):
    turned = paired(folders, names=["sub/0.png"], transforms=[RandomDihedral()])
    assert re.search(r"image \S*/0\.png comes out as 12x10 and as 10x12: crop", batch_message(turned))
    assert {turned[Draw(0, seed)]["inputs"].shape[1:] for seed in range(20)} == {(10, 12), (12, 10)}
    crop = PairedRandomCrop((9, 8))
    assert "9x8 and" in batch_message(paired(folders, transforms=[crop, RandomDihedral()]))
    paired(folders, transforms=[PairedRandomCrop(8), RandomDihedral()]).check(batched=True)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(7, 9), st.integers(7, 9)), min_size=1, max_size=3),
    steps=st.lists(
        st.sampled_from([PairedRandomCrop((7, 6)), PairedResize(factor=0.9), PairedResize((8, 7)), RandomDihedral()]),
        max_size=2,
    ),
)
def test_output_sizes_equal_the_sizes_of_the_items(tmp_path_factory, sizes, steps):
    folder = tmp_path_factory.mktemp("sizes")
    for i, (width, height) in enumerate(sizes):
        save(folder / f"{i}.png", pixels_of(i, width, height))
    dataset = UnpairedFolder(str(folder), transforms=steps)
    try:
        expected = set(dataset.output_sizes()["image"])
    except ValueError:
        # A picture is smaller than the crop.
        reject()
    # The chance that all twelve draws turn a picture, or that none does, is 2 ** -11.
    items = (dataset[Draw(i, seed)]["inputs"] for i in range(len(sizes)) for seed in range(12))
    assert {(item.shape[2], item.shape[1]) for item in items} == expected


def test_a_batch_of_combined_sets_needs_one_size(folders):
    cropped = [paired(folders, transforms=[PairedRandomCrop(edge)]) for edge in (8, 7)]
    ConcatenatedSets([cropped[0], cropped[0]]).check(batched=True)
    assert "8x8" in batch_message(ConcatenatedSets(cropped))
    # Here the inputs have one size and the references two.
    night = PairedFolders(str(folders / "night"), str(folders / "night"), transforms=[PairedRandomCrop(8)])
    assert re.search(r"target .* 16x16 and .* 8x8", batch_message(ConcatenatedSets([cropped[0], night])))
    # Pairs and unpaired pictures are never stacked into one tensor.
    unpaired = UnpairedFolder(str(folders / "night"))
    SemiSupervisedSet(cropped[0], unpaired).check(batched=True)
    SemiSupervisedSet(ConcatenatedSets([cropped[0]]), ConcatenatedSets([unpaired])).check(batched=True)
    assert "7x7" in batch_message(SemiSupervisedSet(ConcatenatedSets(cropped), unpaired))
    save(folders / "night" / "9.png", pixels_of(9, 15, 14))
    message = batch_message(SemiSupervisedSet(cropped[0], UnpairedFolder(str(folders / "night"))))
    assert re.search(r"unpaired \S*night/0\.png comes out as 14x14 and \S*night/9\.png as 15x14", message)


def test_inner_sets_of_other_classes_are_checked_by_their_own_method():
    class Other(list):
        def check(self):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        ConcatenatedSets([Other([1])]).check(batched=True)
    ConcatenatedSets([[1]]).check(batched=True)


def semi_supervised(folders, strong=None):
    return DATASETS.build(
        {
            "type": "llie_preproc.SemiSupervisedSet",
            "paired": {
                "type": "llie_preproc.PairedFolders",
                "low": str(folders / "low"),
                "high": str(folders / "high"),
                "scale": 2,
                "transforms": CROP_AND_TURN,
            },
            "unpaired": {
                "type": "llie_preproc.UnpairedFolder",
                "folder": str(folders / "night"),
                "transforms": [{"type": "llie_preproc.PairedRandomCrop", "size": 9}],
            },
            "strong": strong,
        }
    )


STRONG = {"type": "llie_preproc.StrongAugmentation", "blur": False}


def test_a_semi_supervised_item_has_a_pair_and_two_views(folders):
    dataset = semi_supervised(folders, STRONG)
    assert len(dataset) == 4
    dataset.check()
    used = set()
    for seed in range(60):
        item = dataset[Draw(seed % 4, seed)]
        sample = item["data_samples"]
        low = item["inputs"].permute(1, 2, 0).numpy()
        assert np.array_equal(sample.target.permute(1, 2, 0).numpy(), enlarged(255 - low, 2))
        assert sample.unpaired_path == str(folders / "night" / f"{seed % 4}.png")
        used.add(sample.img_path)
        assert sample.unpaired.shape == sample.strong.shape == (3, 9, 9)
    assert len(used) == 5


def test_both_views_show_the_same_pixels(folders):
    plain = semi_supervised(folders)[Draw(1, 5)]["data_samples"]
    assert torch.equal(plain.unpaired, plain.strong)
    grey = semi_supervised(folders, {**STRONG, "jitter": False})
    turned_grey = 0
    for seed in range(40):
        sample = grey[Draw(1, seed)]["data_samples"]
        if not torch.equal(sample.strong, sample.unpaired):
            turned_grey += 1
            luma = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]), sample.unpaired.float(), 1)
            assert (sample.strong.float() - luma).abs().max() <= 1.5
    assert turned_grey > 0


def test_the_same_draw_gives_the_same_semi_supervised_item(folders):
    dataset = semi_supervised(folders, STRONG)
    first = bytes_of(dataset[Draw(2, 7)])
    torch.rand(3)
    assert bytes_of(pickle.loads(pickle.dumps(dataset))[Draw(2, 7)]) == first
    assert len({bytes_of(dataset[Draw(2, seed)]) for seed in range(20)}) == 20
    # The pair depends neither on the unpaired picture beside it nor on the strong view.
    other = semi_supervised(folders)[Draw(3, 7)]
    assert torch.equal(other["inputs"], dataset[Draw(2, 7)]["inputs"])


@pytest.mark.further
def test_the_pair_and_its_crop_are_drawn_independently(folders):
    dataset = SemiSupervisedSet(
        paired(folders, transforms=[PairedRandomCrop((8, 6))]),
        UnpairedFolder(str(folders / "night"), transforms=[PairedRandomCrop(10)]),
    )
    seen, seen_unpaired = set(), set()
    for seed in range(1500):
        item = dataset[Draw(0, seed)]
        path = item["data_samples"].img_path
        seen.add((path, item["inputs"].numpy().tobytes()))
        seen_unpaired.add((path, item["data_samples"].unpaired.numpy().tobytes()))
    # There are five pairs, and five by five windows of each picture.
    assert len(seen) == len(seen_unpaired) == 125


def test_the_check_covers_both_parts(folders):
    unpaired = UnpairedFolder(str(folders / "night"), transforms=[PairedRandomCrop(15)])
    assert "14x14 is smaller" in check_message(SemiSupervisedSet(paired(folders), unpaired))
    small = paired(folders, transforms=[PairedRandomCrop(15)])
    assert "12x10 is smaller" in check_message(SemiSupervisedSet(small, UnpairedFolder(str(folders / "night"))))
    assert "12x10 is smaller" in check_message(ConcatenatedSets([paired(folders), small]))


def test_concatenated_sets_pass_the_draw_on(folders):
    parts = [paired(folders, names=["sub/0.png", "sub/1.png"]), paired(folders, transforms=CROP_AND_TURN)]
    dataset = ConcatenatedSets(parts)
    assert len(dataset) == 7
    for index in range(7):
        part, local = (0, index) if index < 2 else (1, index - 2)
        assert bytes_of(dataset[Draw(index, 9)]) == bytes_of(parts[part][Draw(local, 9)])
    with pytest.raises(IndexError, match="7"):
        dataset[7]
    with pytest.raises(ValueError, match="at least one"):
        ConcatenatedSets([])


def test_workers_of_a_loader_change_no_item(folders):
    dataset = semi_supervised(folders, STRONG)
    draws = [Draw(i % 4, i) for i in range(6)]
    loaded = DataLoader(dataset, batch_size=None, sampler=draws, num_workers=2)
    assert [bytes_of(item) for item in loaded] == [bytes_of(dataset[d]) for d in draws]


def test_plain_indices_use_the_random_state_of_the_process(folders):
    dataset = paired(folders, transforms=CROP_AND_TURN)
    with seeded_by(Draw(0, 1)):
        first, second = bytes_of(dataset[0]), bytes_of(dataset[0])
    with seeded_by(Draw(0, 1)):
        assert bytes_of(dataset[0]) == first
    assert first != second
