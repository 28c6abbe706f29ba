"""``shift_gamma``, the transform ``GammaShift`` and ``llie gamma-shift`` shift gamma in the same way."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llie_preproc.commands.llie import main
from llie_preproc.gamma_shift import exponent, shift_gamma
from llie_preproc.pictures import Picture, read_picture, write_picture

LEVELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)


@pytest.mark.parametrize("gamma", [0.1, 0.4, 1.0, 2.5, 8.0])
def test_the_shift_is_the_power_of_every_level(gamma):
    expected = [round(255 * (level / 255) ** gamma) for level in range(256)]
    shifted = shift_gamma(LEVELS, gamma)
    assert shifted.dtype == np.uint8
    assert shifted[..., 0].ravel().tolist() == expected


@settings(deadline=None)
@given(st.floats(0.05, 20))
def test_the_inverse_convention_is_the_power_of_the_inverse(gamma):
    assert exponent(gamma, "inverse") == pytest.approx(1 / gamma)
    np.testing.assert_array_equal(shift_gamma(LEVELS, gamma, "inverse"), shift_gamma(LEVELS, 1 / gamma, "power"))
    assert (shift_gamma(LEVELS, 1.0, "inverse") == LEVELS).all()
    # A gamma above 1 is darker by one convention and brighter by the other.
    if gamma > 1.1:
        assert shift_gamma(LEVELS, gamma).mean() < LEVELS.mean() < shift_gamma(LEVELS, gamma, "inverse").mean()


def test_wrong_pictures_and_gammas_are_refused():
    with pytest.raises(TypeError, match="float32"):
        shift_gamma(LEVELS.astype(np.float32), 2.0)
    with pytest.raises(ValueError, match="-1"):
        shift_gamma(LEVELS, -1)
    with pytest.raises(ValueError, match="nan"):
        shift_gamma(LEVELS, float("nan"))
    with pytest.raises(ValueError, match="power, inverse, got 'cube'"):
        shift_gamma(LEVELS, 2.0, "cube")


@pytest.fixture
def build():
    pytest.importorskip("mmdet", reason="needs the extra 'mm'")
    from llie_preproc.registry import TRANSFORMS

    return lambda **config: TRANSFORMS.build(dict(type="llie_preproc.GammaShift", **config))


def test_the_transform_equals_the_function(build):
    results = build(gamma=2.5).transform(dict(img=LEVELS, img_path="a.png"))
    np.testing.assert_array_equal(results["img"], shift_gamma(LEVELS, 2.5))
    assert results["gamma"] == 2.5
    inverse = build(gamma=2.5, convention="inverse").transform(dict(img=LEVELS))
    np.testing.assert_array_equal(inverse["img"], shift_gamma(LEVELS, 0.4))


def test_the_transform_draws_every_value_and_repeats_with_the_seed(build):
    transform = build(gamma=[0.2, 1.0, 5.0])

    def draw():
        np.random.seed(4)
        return [transform.transform(dict(img=LEVELS))["gamma"] for _ in range(60)]

    drawn = draw()
    assert set(drawn) == {0.2, 1.0, 5.0}
    assert draw() == drawn
    last = transform.transform(dict(img=LEVELS))
    np.testing.assert_array_equal(last["img"], shift_gamma(LEVELS, last["gamma"]))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (dict(gamma=0), "positive"),
        (dict(gamma=[1.0, -2.0]), "-2"),
        (dict(gamma=[]), "at least one value"),
        (dict(gamma=2, convention="up"), "'up'"),
    ],
)
def test_wrong_options_of_the_transform_are_refused(build, config, message):
    with pytest.raises(ValueError, match=message):
        build(**config)


def test_the_transform_runs_in_a_pipeline_of_mmdetection(build, tmp_path):
    from mmcv.transforms import Compose

    write_picture(tmp_path / "a.png", Picture(LEVELS))
    pipeline = Compose(
        [
            dict(type="LoadImageFromFile"),
            dict(type="llie_preproc.GammaShift", gamma=(3.0,)),
            dict(type="mmdet.PackDetInputs", meta_keys=("gamma",)),
        ]
    )
    packed = pipeline(dict(img_path=str(tmp_path / "a.png"), img_id=0))
    assert packed["data_samples"].metainfo["gamma"] == 3.0
    np.testing.assert_array_equal(packed["inputs"].permute(1, 2, 0).numpy(), shift_gamma(LEVELS, 3.0)[..., ::-1])


@pytest.fixture
def pictures(tmp_path):
    """A folder with a picture with alpha and one of 16 bits, and their annotations."""
    folder = tmp_path / "in"
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_picture(folder / "a.png", Picture(LEVELS, alpha))
    write_picture(folder / "sub" / "b.png", Picture(LEVELS.astype(np.uint16) * 257))
    truth = dict(
        images=[
            dict(id=1, file_name="a.png", width=16, height=16),
            dict(id=2, file_name="sub/b.png", width=16, height=16),
        ],
        categories=[dict(id=1, name="face")],
        annotations=[dict(id=5, image_id=2, category_id=1, bbox=[1, 2, 3, 4], area=12, iscrowd=0)],
    )
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return folder


def test_a_set_is_made_for_every_gamma(pictures, tmp_path, capsys):
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in pictures.rglob("*.png")}
    arguments = ["gamma-shift", pictures, "--out", out, "--gammas", 0.2, 5, "--annotations", tmp_path / "truth.json"]
    assert main(list(map(str, arguments))) == 0
    for gamma in (0.2, 5):
        for name in ("a.png", "sub/b.png"):
            picture = read_picture(out / f"gamma_{gamma:g}" / name)
            np.testing.assert_array_equal(picture.pixels, shift_gamma(LEVELS, gamma))
        assert read_picture(out / f"gamma_{gamma:g}" / "a.png").alpha.ravel().tolist() == list(range(256))
        truth = json.loads((out / f"gamma_{gamma:g}.json").read_text())
        assert [image["file_name"] for image in truth["images"]] == ["a.png", "sub/b.png"]
        assert truth["annotations"][0]["image_id"] == 2
    assert {path: path.read_bytes() for path in pictures.rglob("*.png")} == before
    assert "2 pictures at 2 gammas" in capsys.readouterr().out


def test_a_bad_picture_is_reported_and_the_rest_is_made(pictures, tmp_path, capsys):
    (pictures / "c.jpg").write_bytes(b"no picture")
    truth = json.loads((tmp_path / "truth.json").read_text())
    truth["images"].append(dict(id=3, file_name="c.jpg", width=16, height=16))
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    arguments = ["gamma-shift", pictures, "--out", tmp_path / "out", "--gammas", 0.2, "--convention", "inverse"]
    arguments += ["--annotations", tmp_path / "truth.json"]
    assert main(list(map(str, arguments))) == 1
    assert "1 of 3 failed" in (err := capsys.readouterr().err)
    assert "c.jpg: not a picture" in err
    made = read_picture(tmp_path / "out" / "gamma_0.2" / "a.png").pixels
    np.testing.assert_array_equal(made, shift_gamma(LEVELS, 5.0))
    shifted = json.loads((tmp_path / "out" / "gamma_0.2.json").read_text())
    assert [image["id"] for image in shifted["images"]] == [1, 2]


def test_names_in_the_annotations_become_those_of_png_files(tmp_path, capsys):
    write_picture(tmp_path / "in" / "a.b.jpg", Picture(LEVELS))
    truth = dict(images=[dict(id=1, file_name="a.b.jpg")], categories=[], annotations=[])
    (tmp_path / "t.json").write_text(json.dumps(truth))
    arguments = ["gamma-shift", tmp_path / "in", "--out", tmp_path / "out", "--gammas", 1]
    arguments += ["--annotations", tmp_path / "t.json"]
    assert main(list(map(str, arguments))) == 0
    made = json.loads((tmp_path / "out" / "gamma_1.json").read_text())
    assert made["images"][0]["file_name"] == "a.b.png"
    same = read_picture(tmp_path / "out" / "gamma_1" / "a.b.png").pixels
    np.testing.assert_array_equal(same, read_picture(tmp_path / "in" / "a.b.jpg").pixels)


def test_existing_results_need_resume_or_overwrite(pictures, tmp_path, capsys):
    base = ["gamma-shift", str(pictures), "--out", str(tmp_path / "out"), "--gammas", "2"]
    assert main(base) == 0
    made = tmp_path / "out" / "gamma_2" / "a.png"
    made.write_bytes(b"mine")
    assert main(base) == 2
    assert "--resume keeps" in capsys.readouterr().err
    assert main([*base, "--resume"]) == 0
    assert made.read_bytes() == b"mine"
    assert main([*base, "--overwrite"]) == 0
    np.testing.assert_array_equal(read_picture(made).pixels, shift_gamma(LEVELS, 2))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--gammas", "2", "--convention", "inverse"], "with another convention ('power', now 'inverse')"),
        (["--gammas", "2.0000001"], "with another gamma (2.0, now 2.0000001)"),
    ],
)
def test_pictures_of_other_settings_are_not_kept(pictures, tmp_path, capsys, changed, message):
    base = ["gamma-shift", str(pictures), "--out", str(tmp_path / "out")]
    assert main([*base, "--gammas", "2", "5"]) == 0
    made = contents(tmp_path / "out")
    capsys.readouterr()
    assert main([*base, *changed, "--resume"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'out' / 'gamma_2'} was made {message}" in error
    assert error.count("\n") == 1
    assert contents(tmp_path / "out") == made
    assert main([*base, *changed, "--overwrite"]) == 0
    assert main([*base, *changed, "--resume"]) == 0
    # The tree that was not made again has its own settings still.
    assert main([*base, "--gammas", "5", "--resume"]) == 0
    assert main([*base, "--gammas", "5", "--convention", "inverse", "--resume"]) == 2


def test_pictures_whose_settings_are_not_known_are_not_kept(pictures, tmp_path, capsys):
    base = ["gamma-shift", str(pictures), "--out", str(tmp_path / "out"), "--gammas", "2"]
    assert main(base) == 0
    (tmp_path / "out" / "settings.json").unlink()
    assert main([*base, "--resume"]) == 2
    assert "gamma_2 holds pictures, but settings.json does not say how they were made" in capsys.readouterr().err
    (tmp_path / "out" / "settings.json").write_text("{")
    assert main([*base, "--resume"]) == 2
    assert "settings.json is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--gammas", "0"], "--gammas: gamma must be positive and finite, got 0"),
        (["--gammas", "2", "2.0"], "--gammas names one twice: 2 2"),
        (["--annotations", "{tmp}/none.json"], "none.json"),
        (["--annotations", "{tmp}/strange.json"], "images[0]: there is no picture 'z.png'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(pictures, tmp_path, capsys, extra, message):
    strange = dict(images=[dict(id=1, file_name="z.png")], categories=[], annotations=[])
    (tmp_path / "strange.json").write_text(json.dumps(strange))
    arguments = ["gamma-shift", str(pictures), "--out", str(tmp_path / "out")]
    arguments += [each.format(tmp=tmp_path) for each in extra]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_outputs_inside_the_inputs_are_refused(pictures, tmp_path, capsys):
    assert main(["gamma-shift", str(pictures), "--out", str(pictures / "out")]) == 2
    assert "is inside" in capsys.readouterr().err
    assert main(["gamma-shift", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 2
    assert "no folder" in capsys.readouterr().err
