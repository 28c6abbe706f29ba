"""``llie quality`` scores enhancers on folders and configs; the shipped PSENet nearly equals the official one."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.places import ROOT
from tests.support.random_pictures import levels as picture

pytest.importorskip("mmengine", reason="needs the extra 'mm'")
pytest.importorskip("torchmetrics", reason="needs the extra 'mm'")

import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from detection_eval.metrics import image_quality
from detection_eval.metrics.arrays import matlab_resize
from detection_eval.shared.quality_scores import enlarged
from llie_preproc import build_enhancer
from llie_preproc.checkpoints import WEIGHTS_DIR, save_state_dict, shipped_weights
from llie_preproc.commands.llie import main

CONFIGS = ROOT / "mm_configs" / "evaluation"


def test_scores_agree_with_scikit_image():
    a, b = picture(0, (40, 50)), picture(1, (40, 50))
    scores = image_quality(*(torch.from_numpy(x).permute(2, 0, 1) / 255 for x in (a, b)))
    assert scores["psnr"] == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-3)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(a, b, channel_axis=2, data_range=255, **gaussian)
    assert scores["ssim"] == pytest.approx(expected, abs=1e-4)


def test_shapes_that_cannot_be_compared_are_named():
    with pytest.raises(ValueError, match=r"at least 11.*\(3, 9, 20\)"):
        image_quality(torch.rand(3, 9, 20), torch.rand(3, 9, 20))
    with pytest.raises(ValueError, match="the same shape"):
        image_quality(torch.rand(3, 20, 20), torch.rand(3, 20, 21))


@pytest.fixture
def pairs(tmp_path):
    for folder, brightness in (("low", 60), ("high", 200)):
        (tmp_path / folder / "a").mkdir(parents=True)
        for i in range(2):
            Image.fromarray(picture(i, (40, 50), high=brightness)).save(tmp_path / folder / "a" / f"{i}.png")
    return str(tmp_path / "low"), str(tmp_path / "high")


def test_a_row_is_printed_for_the_input_and_each_enhancer(pairs, capsys):
    assert main(["quality", *pairs, "--enhancer", "GammaCorrection"]) == 0
    out = capsys.readouterr().out
    assert "2 pairs" in out
    raw, enhanced = (float(line.split()[1]) for line in out.splitlines()[1:])
    inputs = [np.asarray(Image.open(f"{folder}/a/{i}.png")) for i in range(2) for folder in pairs]
    expected = np.mean([peak_signal_noise_ratio(inputs[i + 1], inputs[i]) for i in (0, 2)])
    assert raw == pytest.approx(expected, abs=2e-3)
    assert enhanced > raw


def test_the_chosen_metrics_and_their_variants_are_printed(pairs, capsys):
    command = ["quality", *pairs, "--enhancer", "GammaCorrection", "--metrics", "rmse", "loe", "eme"]
    assert main([*command, "--eme-block", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 pairs"
    raw, enhanced = (line.split() for line in lines[1:3])
    assert raw[::2] == ["RMSE", "LOE", "EME", "raw"]
    assert float(raw[3]) == 0
    assert float(enhanced[1]) < float(raw[1])
    assert [line.split(":")[0] for line in lines[3:]] == ["rmse", "loe", "eme"]
    assert "max_p 255" in lines[3]
    assert "variant A" in lines[4]
    assert "blocks of 5x5, 20 ln" in lines[5]


def test_metrics_without_a_reference_need_no_second_folder(pairs, capsys):
    assert main(["quality", pairs[0], "--enhancer", "GammaCorrection", "--metrics", "loe_bimef", "eme"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 pictures\nLOE-BIMEF 0.00  EME ")


def test_matched_brightness_is_named_in_the_table(pairs, capsys):
    assert main(["quality", *pairs, "--enhancer", "Identity", "--metrics", "psnr", "--gt-mean"]) == 0
    assert "\nPSNR-GT-mean " in capsys.readouterr().out
    assert main(["quality", *pairs, "--enhancer", "Identity", "--gt-mean"]) == 0
    assert "SSIM-GT-mean " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--metrics", "psnr", "nique"], "psnr, rmse, sre, "),
        (["--metrics", "niqe"], "niqe_pris_params.npz"),
        (["--metrics", "lpips"], "alexnet-owt-7be5be79.pth"),
        (["--metrics", "fid", "--fid-trunk", "absent.pth"], "no checkpoint at absent.pth"),
        (["--metrics", "eme", "--eme-block", "0"], "block must"),
    ],
)
def test_unusable_metrics_are_named(pairs, capsys, arguments, match):
    assert main(["quality", *pairs, "--enhancer", "Identity", *arguments]) == 2
    assert match in capsys.readouterr().err


def test_a_missing_reference_folder_is_named(pairs, capsys):
    assert main(["quality", pairs[0], "--enhancer", "Identity"]) == 2
    assert "psnr, ssim: this needs HIGH, the folder of references" in capsys.readouterr().err


def test_a_missing_pair_is_named(pairs, capsys, tmp_path):
    (tmp_path / "high" / "a" / "1.png").unlink()
    assert main(["quality", *pairs, "--enhancer", "Identity"]) == 2
    assert "1.png has no pair" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda high: Image.fromarray(picture(0, size=(8, 9))).save(high / "a" / "1.png"), "expected the same shape"),
        (lambda high: (high / "a" / "1.png").write_bytes(b""), "the file is empty"),
    ],
)
def test_bad_pairs_are_named_and_the_others_scored(pairs, capsys, spoil, match, tmp_path):
    command = ["quality", *pairs, "--enhancer", "Identity", "--metrics", "psnr"]
    spoil(tmp_path / "high")
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "error: 1 of 2 failed:\n" in err
    assert match in err.splitlines()[-1]
    assert "a/1.png" in err.splitlines()[-1]
    good = [np.asarray(Image.open(tmp_path / folder / "a" / "0.png")) for folder in ("high", "low")]
    assert out.startswith("1 pairs\n")
    assert float(out.split()[3]) == pytest.approx(peak_signal_noise_ratio(*good), abs=2e-3)
    (tmp_path / "low" / "a" / "0.png").write_bytes(b"")
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert not out
    assert "2 of 2 failed" in err


def test_pictures_with_an_undefined_score_are_named(tmp_path, capsys):
    window = np.outer(*[np.exp(-(np.arange(-3, 4) ** 2) * 18 / 49)] * 2)
    model = tmp_path / "model.npz"
    np.savez(model, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36), gaussian_window=window / window.sum())
    (tmp_path / "night").mkdir()
    Image.fromarray(picture(0, size=(96, 192))).save(tmp_path / "night" / "a.png")
    Image.fromarray(np.full((96, 192, 3), 9, np.uint8)).save(tmp_path / "night" / "b.png")
    command = ["quality", str(tmp_path / "night"), "--enhancer", "Identity", "--metrics", "niqe"]
    assert main([*command, "--niqe-model", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(float(line.split()[1]) > 0 for line in lines[1:3])
    assert lines[3].startswith("niqe of raw input: undefined for 1 of 2, the mean is over the others: ")
    assert lines[3].endswith("b.png")


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory):
    """A folder of pictures, a folder of references twice as large, and a file of weights for CollaBA."""
    root = tmp_path_factory.mktemp("enlarging")
    for folder, size in (("small", (24, 32)), ("large", (48, 64))):
        (root / folder).mkdir()
        Image.fromarray(picture(0, size=size)).save(root / folder / "a.png")
    save_state_dict(build_enhancer("CollaBA", None).state_dict(), root / "collaba.safetensors")
    return [str(root / name) for name in ("small", "large", "collaba.safetensors")]


@pytest.mark.further
def test_enhancers_that_enlarge_are_compared_with_larger_references(enlarging, capsys):
    small, large, weights = enlarging
    command = ["quality", small, large, "--enhancer", f"CollaBA@{weights}", "--metrics", "psnr", "loe"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("  raw input, bicubic x2")
    pixels, reference = (np.asarray(Image.open(f"{folder}/a.png")) for folder in (small, large))
    # Pillow's cubic equals MATLAB's except at the border.
    bicubic = np.asarray(Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC))
    assert float(lines[1].split()[1]) == pytest.approx(peak_signal_noise_ratio(reference, bicubic), abs=0.05)
    assert lines[2].endswith("  CollaBA")
    assert main(["quality", small, large, "--enhancer", "Identity"]) == 1
    assert "the shape (3, 24, 32) and its reference (3, 48, 64)" in capsys.readouterr().err


def test_the_raw_input_is_enlarged_by_matlabs_cubic():
    pixels = picture(0, size=(9, 11))
    bands = [matlab_resize(pixels[..., i].astype(float), (18, 22)) for i in range(3)]
    assert np.array_equal(enlarged(pixels, 2), np.floor(np.dstack(bands) + 0.5).clip(0, 255))
    flat = np.full((5, 6, 3), 200, np.uint8)
    assert np.array_equal(enlarged(flat, 4), np.full((20, 24, 3), 200))
    assert enlarged(flat, 1) is flat


@pytest.fixture
def sice(tmp_path):
    root = tmp_path / "sice" / "Dataset_Part2"
    for i, name in enumerate(("1/1.JPG", "1/2.JPG", "2/1.JPG", "Label/1.JPG", "Label/2.JPG")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i, size=(80, 96))).save(root / name)
    return str(tmp_path / "sice")


def test_the_config_of_sice_scores_pictures_at_a_quarter_of_their_size(sice, capsys):
    command = ["quality", "--config", str(CONFIGS / "sice_part2.py"), "--enhancer", "Identity", "--metrics", "psnr"]
    assert main([*command, "--cfg-options", f"val_dataloader.dataset.root={sice}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 pairs"
    part = Path(sice) / "Dataset_Part2"
    scores = []
    for low, label in (("1/1", 1), ("1/2", 1), ("2/1", 2)):
        images = [Image.open(part / f"{name}.JPG") for name in (low, f"Label/{label}")]
        quarters = [np.asarray(x.resize((24, 20), Image.Resampling.BILINEAR)) for x in images]
        scores.append(peak_signal_noise_ratio(*quarters))
    assert float(lines[1].split()[1]) == pytest.approx(np.mean(scores), abs=0.02)
    assert main([*command, "--cfg-options", "val_dataloader.dataset.root=absent"]) == 2
    assert "absent" in capsys.readouterr().err
    (part / "2" / "1.JPG").write_bytes(b"")
    assert main([*command, "--cfg-options", f"val_dataloader.dataset.root={sice}"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("2 pairs")
    assert "2/1.JPG" in err.splitlines()[-1]


def test_the_config_of_exposure_errors_takes_under_or_over_exposed_pictures_or_all(tmp_path, capsys):
    inputs = [f"INPUT_IMAGES/a_{ev}.png" for ev in ("N1.5", "N1", "0", "P1", "P1.5")]
    for name in (*inputs, "expert_e_testing_set/a.png"):
        path = tmp_path / "testing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0, size=(20, 24))).save(path)
    command = ["quality", "--config", str(CONFIGS / "exposure_errors.py"), "--enhancer", "Identity", "--cfg-options"]
    for half, number in (("under", 2), ("over", 3), ("all", 5)):
        options = [f"val_dataloader.dataset.{x}" for x in (f"root={tmp_path}", f"exposures={half}")]
        assert main([*command, *options]) == 0
        assert capsys.readouterr().out.startswith(f"{number} pairs\n")


def test_the_enhancer_of_a_config_is_used(enlarging, tmp_path, capsys):
    small, large, weights = enlarging
    text = (
        "model = dict(enhancer=dict(type='llie_preproc.CollaBA', scale=2, checkpoint='absent.pth'))\n"
        f"pairs = dict(type='llie_preproc.PairedFolders', low={small!r}, high={large!r}, scale=2)\n"
        "val_dataloader = dict(dataset=pairs)\n"
    )
    (tmp_path / "config.py").write_text(text)
    command = ["quality", "--config", str(tmp_path / "config.py")]
    assert main([*command, "--cfg-options", f"model.enhancer.checkpoint={weights}"]) == 0
    assert "  CollaBA\n" in capsys.readouterr().out
    assert main(command) == 2
    assert "absent.pth" in capsys.readouterr().err
    (tmp_path / "config.py").write_text(text.replace(", checkpoint='absent.pth'", ""))
    assert main(command) == 2
    assert "CollaBA has no shipped weights: name some with --enhancer NAME@WEIGHTS" in capsys.readouterr().err
    assert main([*command, "--enhancer", f"mine={tmp_path / 'config.py'}@{weights}"]) == 0
    assert "  mine\n" in capsys.readouterr().out


def test_rows_are_in_the_order_of_the_enhancers(pairs, capsys):
    network = build_enhancer("PSENet", checkpoint=None)
    other = Path(pairs[0]).parent / "other.safetensors"
    save_state_dict(network.state_dict(), other)
    command = ["quality", *pairs, "--metrics", "psnr", "--enhancer"]
    assert main([*command, f"other=psenet@{other}", "none", "psenet", "GammaCorrection"]) == 0
    rows = {line.split(maxsplit=3)[3]: line.split()[1] for line in capsys.readouterr().out.splitlines()[1:5]}
    assert list(rows) == ["raw input", "other", "psenet", "GammaCorrection"]
    assert len(set(rows.values())) == 4
    assert main([*command, "none"]) == 0
    assert capsys.readouterr().out.count("PSNR") == 1
    assert main([*command, "psenet", f"psenet@{other}"]) == 2
    assert "--enhancer names psenet twice: put LABEL= before one of them" in capsys.readouterr().err
    (other.parent / "x2.py").write_text("enhancer = dict(type='Upscale', scale=2)")
    assert main([*command, "psenet", f"x2={other.parent / 'x2.py'}"]) == 2
    assert "psenet by 1, x2 by 2" in capsys.readouterr().err


def test_inference_options_reach_the_network(pairs, capsys):
    """A smaller map changes the result; two batches instead of one do not."""
    command = ["quality", *pairs, "--metrics", "psnr", "--enhancer", "psenet"]
    lines = []
    for options in ([], ["--map-side", "16"], ["--batch-size", "1"]):
        assert main([*command, *options]) == 0
        lines.append(capsys.readouterr().out.splitlines()[2])
    assert lines[0] == lines[2] != lines[1]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("val_dataloader = dict(", "config.py"),
        ("model = dict()", "config.py has no val_dataloader.dataset"),
        ("val_dataloader = dict(dataset=dict(type='llie_preproc.PairedFolders', lw='a'))", "lw"),
        ("val_dataloader = dict(dataset=dict(type='llie_preproc.Nope'))", "Nope"),
    ],
)
def test_bad_configs_are_named(tmp_path, capsys, text, match):
    (tmp_path / "config.py").write_text(text)
    assert main(["quality", "--config", str(tmp_path / "config.py")]) == 2
    assert match in capsys.readouterr().err


def test_wrong_calls_are_errors_of_one_line(pairs, capsys):
    assert main(["quality", *pairs, "--enhancer", "Nope"]) == 2
    assert capsys.readouterr().err.startswith("llie: error: no enhancer 'Nope'; there are: ")
    assert main(["quality", *pairs, "--device", "none"]) == 2
    assert capsys.readouterr().err.startswith("llie: error: --device none: ")
    if not torch.cuda.is_available():
        assert main(["quality", *pairs, "--device", "cuda"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("llie: error: --device cuda: ")
    assert main(["quality", *pairs, "--cfg-options", "a=1"]) == 2
    assert "no --config is given" in capsys.readouterr().err
    assert main(["quality"]) == 2
    assert "give either LOW" in capsys.readouterr().err


def test_shipped_weights_are_small_and_described():
    index = json.loads((WEIGHTS_DIR / "index.json").read_text(encoding="utf-8"))
    assert set(index) == {w.name for w in shipped_weights()}
    for weights in shipped_weights():
        assert weights.path.stat().st_size < 2_000_000
        assert weights.recipe
        assert weights.data
        assert weights.licence
        assert weights.scores
    assert len([w for w in shipped_weights() if w.enhancer == "PSENet" and w.default]) == 1
    assert {p.name for p in WEIGHTS_DIR.glob("*.safetensors")} == {w.file for w in shipped_weights()}


@pytest.mark.slow(30)
def test_shipped_psenet_is_within_0_3_db_of_the_official_one(shared_data, capsys):
    folder = shared_data / "lol_v1" / "our485"
    official = str(shared_data / "reference_weights" / "psenet_sice_official.safetensors")
    assert (
        main(
            [
                "quality",
                str(folder / "low"),
                str(folder / "high"),
                "--enhancer",
                "psenet",
                f"official=psenet@{official}",
            ]
        )
        == 0
    )
    raw, ours, theirs = (float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:])
    assert raw == pytest.approx(7.38, abs=0.02)
    assert theirs == pytest.approx(15.97, abs=0.02)
    assert ours > theirs - 0.3
