"""The parameters of SAM's generator of masks, by default and on the command line."""

import inspect

import pytest

pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from segment_anything import SamAutomaticMaskGenerator

from detection_eval.sam.sam_choice import GENERATOR, generator_parameters


def test_crops_take_their_layers_from_the_picture():
    parameters = generator_parameters(["points_per_side=8"], "crops")
    assert parameters.keys() == GENERATOR.keys() - {"crop_n_layers"}
    assert (parameters["points_per_side"], parameters["crop_n_points_downscale_factor"]) == (8, 2)


def test_the_generators_defaults_are_segment_anythings():
    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    assert {name: theirs[name].default for name in GENERATOR} == dict(GENERATOR)
    assert theirs.keys() - GENERATOR.keys() == {"model", "point_grids", "output_mode"}
