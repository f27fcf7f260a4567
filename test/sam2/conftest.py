"""The filled tiny model and the package's own tools on it. Skips without torch or the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[sam2]'")
pytest.importorskip("sam2", reason="sam2 is not installed: pip install 'semantic_stereo_ros[sam2]'")
torch.set_num_threads(1)  # the test workers share the cores already
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def filled_state():
    """The state_dict of the tiny model with deterministic values; shared, not to be changed."""
    import oracle

    from semantic_stereo_ros.models.sam2 import loading as sam2_loading

    return oracle.fill(sam2_loading.build(oracle.MODEL, oracle.IMAGE_SIZE).state_dict())


@pytest.fixture(scope="session")
def model(filled_state):
    """The tiny SAM 2.1 of these values at 256 px, as the backend builds it; not to be changed."""
    import oracle

    from semantic_stereo_ros.models.sam2 import loading as sam2_loading

    return sam2_loading.assemble(filled_state, oracle.MODEL, oracle.IMAGE_SIZE)


@pytest.fixture
def torchvision_names(monkeypatch):
    """The torchvision names that the package's generator and predictors import, for this test alone."""
    import oracle

    oracle.install_torchvision(monkeypatch)


@pytest.fixture(scope="session")
def reference_masks(model):
    """What the package's own generator keeps of oracle.textured_image(), made once: list of its records."""
    import oracle

    with pytest.MonkeyPatch.context() as patch:
        oracle.install_torchvision(patch)
        return oracle.reference_generator(model).generate(oracle.textured_image())
