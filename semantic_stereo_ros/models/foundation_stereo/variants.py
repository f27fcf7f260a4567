"""The three published sizes and what else decides the shapes."""

from __future__ import annotations

from dataclasses import dataclass

from semantic_stereo_ros.checks import ConfigError

ATTENTION = ("tokens", "heads")


@dataclass(frozen=True)
class Variant:
    """width, depth, heads: of the vision transformer; taken: its blocks whose outputs are read; dpt: channels of the head's four levels."""

    name: str
    width: int
    depth: int
    heads: int
    taken: tuple[int, int, int, int]
    dpt: tuple[int, int, int, int]
    fusion: int

    @property
    def prior(self) -> int:
        """Channels of the monocular feature."""
        return self.fusion // 2

    @property
    def feature(self) -> int:
        """Channels of the matching feature at a quarter of the size."""
        return 96 + self.prior


VARIANTS = {
    "vits": Variant("vits", 384, 12, 6, (2, 5, 8, 11), (48, 96, 192, 384), 64),
    "vitb": Variant("vitb", 768, 12, 12, (2, 5, 8, 11), (96, 192, 384, 768), 128),
    "vitl": Variant("vitl", 1024, 24, 16, (4, 11, 17, 23), (256, 512, 1024, 1024), 256),
}


@dataclass(frozen=True)
class ModelConfig:
    """variant: a key of VARIANTS. max_disp: searched disparities, px, a multiple of 32; no weight depends on it.

    attention: 'tokens', the form that the published weights were trained with, or 'heads', the form of the official code since June 2025.
    Raises ConfigError.
    """

    variant: str = "vitl"
    max_disp: int = 416
    attention: str = "tokens"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ConfigError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        if self.max_disp <= 0 or self.max_disp % 32:
            raise ConfigError(f"max_disp must be a positive multiple of 32, got {self.max_disp}")
        if self.attention not in ATTENTION:
            raise ConfigError(f"attention must be one of {', '.join(ATTENTION)}, got {self.attention!r}")

    @property
    def size(self) -> Variant:
        return VARIANTS[self.variant]

    @property
    def levels(self) -> int:
        """Disparities of the cost volume, at a quarter of the size."""
        return self.max_disp // 4
