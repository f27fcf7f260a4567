"""Filled models and image pairs. Skips without torch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")
torch.set_num_threads(1)  # the test workers share the cores already


@pytest.fixture(scope="session")
def filled_state():
    """filled_state(variant) -> a state_dict with deterministic values, made once."""
    from filling import fill

    from semantic_stereo_ros.models.foundation_stereo.model import FoundationStereo
    from semantic_stereo_ros.models.foundation_stereo.variants import ModelConfig

    states = {}

    def state(variant: str = "vits"):
        if variant not in states:
            with torch.device("meta"):
                names = FoundationStereo(ModelConfig(variant, 64)).state_dict()
            states[variant] = fill(names)
        return {name: value.clone() for name, value in states[variant].items()}

    return state


@pytest.fixture(scope="session")
def pair():
    """pair(height, width, batch) -> left and right (B, 3, H, W) float 0..255: textured, the right one shifted by 7 px."""

    def make(height: int, width: int, batch: int = 1):
        generator = torch.Generator().manual_seed(3)
        coarse = torch.rand(batch, 3, height // 4 + 3, (width + 7) // 4 + 3, generator=generator)
        scene = torch.nn.functional.interpolate(coarse, (height, width + 7), mode="bicubic").clamp(0, 1) * 255
        return scene[..., :width].contiguous(), scene[..., 7:].contiguous()

    return make
