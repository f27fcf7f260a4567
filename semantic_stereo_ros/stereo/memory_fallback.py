"""How much a neural matcher puts into a frame, and what it gives up, step by step, when memory runs out."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

SMALLEST_ROWS = 4
LARGEST_SLAB = 32
SCALE_STEP = 0.75
SMALLEST_SIDE_PX = 96
FEWEST_ITERATIONS = 4


@dataclass(frozen=True)
class Effort:
    """rows: of the cost volume worked on at a time, 0 = all. scale: of the images. device: 'cpu', 'cuda:0'."""

    rows: int
    scale: float
    iterations: int
    device: str

    def less(self, shape: tuple[int, int], asked: Effort) -> Effort | None:
        """The next smaller effort for images of shape (H, W): slabs, then scale, then iterations, then the CPU; None below the last.

        The CPU begins with the scale and iterations that are `asked`, in small slabs: it has more memory.
        """
        if self.rows == 0 or self.rows > LARGEST_SLAB:
            return dataclasses.replace(self, rows=LARGEST_SLAB)
        if self.rows > SMALLEST_ROWS:
            return dataclasses.replace(self, rows=max(SMALLEST_ROWS, self.rows // 8 * 4))
        if min(shape) * self.scale * SCALE_STEP >= SMALLEST_SIDE_PX:
            return dataclasses.replace(self, scale=self.scale * SCALE_STEP)
        if self.iterations > FEWEST_ITERATIONS:
            return dataclasses.replace(self, iterations=max(FEWEST_ITERATIONS, self.iterations // 2))
        if self.device != "cpu":
            return dataclasses.replace(asked, rows=SMALLEST_ROWS, device="cpu")
        return None

    def instead_of(self, asked: Effort) -> str:
        """What differs from `asked`, in words; '' when nothing does."""
        parts = []
        if self.device != asked.device:
            parts.append(f"on the {self.device.upper()} instead of {asked.device}")
        if self.scale != asked.scale:
            parts.append(f"at scale {self.scale:.2g} instead of {asked.scale:.2g}")
        if self.iterations != asked.iterations:
            parts.append(f"with {self.iterations} iterations instead of {asked.iterations}")
        if self.rows != asked.rows:
            parts.append(f"in slabs of {self.rows} rows" + (f" instead of {asked.rows}" if asked.rows else ""))
        return ", ".join(parts)
