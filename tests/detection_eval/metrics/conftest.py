"""A fixture for the tests of FID."""

import pytest
import torch


@pytest.fixture(scope="session")
def inception_trunk(tmp_path_factory):
    """File of an Inception trunk with random weights, in the format of the published one."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs the extra 'metrics'")
    folder = tmp_path_factory.mktemp("trunk")
    torch.save({}, folder / "empty.pth")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        # The library needs a file of weights to build the network.
        patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = library.FeatureExtractorInceptionV3(
            "i", ["2048"], feature_extractor_weights_path=folder / "empty.pth"
        )
    torch.save(network.state_dict(), folder / "inception.pth")
    return folder / "inception.pth"
