"""The parameters of SAM's mask generator have segment-anything's defaults; ``--oversize crops`` changes them."""

import inspect

import pytest

pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from segment_anything import SamAutomaticMaskGenerator

from detection_eval.sam.sam_choice import GENERATOR, generator_parameters


def test_with_crops_the_number_of_crop_layers_is_not_a_parameter():
    parameters = generator_parameters(["points_per_side=8"], "crops")
    assert parameters.keys() == GENERATOR.keys() - {"crop_n_layers"}
    assert (parameters["points_per_side"], parameters["crop_n_points_downscale_factor"]) == (8, 2)


def test_the_defaults_of_the_generator_are_those_of_segment_anything():
    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    assert {name: theirs[name].default for name in GENERATOR} == dict(GENERATOR)
    assert theirs.keys() - GENERATOR.keys() == {"model", "point_grids", "output_mode"}
