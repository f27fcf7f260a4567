"""Line charts as inline SVG, small enough to stand in a row."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

SIZE, LEFT, BOTTOM, TOP, RIGHT = 250, 40, 34, 22, 10
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd")
SMALLEST, LARGEST = 1e-3, 1e2
Points = Sequence[tuple[float, float]]


def reliability_chart(title: str, curves: Mapping[str, Points]) -> str:
    """Promised against observed shares, 0..1; the diagonal is a true sigma, below it sigma is too small."""
    return _chart(title, curves, (0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0], "promised share", "observed share", log=False)


def spread_chart(title: str, curves: Mapping[str, Points], unit: str) -> str:
    """Root mean square of sigma against that of the error, by bins of sigma, both axes logarithmic; the diagonal is a true sigma."""
    shown = {name: [(_inside(a), _inside(b)) for a, b in points] for name, points in curves.items()}
    values = [value for points in shown.values() for point in points for value in point] or [SMALLEST, LARGEST]
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    ticks = [10.0**n for n in range(low, high + 1)]
    return _chart(title, shown, (ticks[0], ticks[-1]), ticks, f"sigma, {unit}", f"error, {unit}", log=True)


def _inside(value: float) -> float:
    """On a logarithmic axis, what lies beyond its ends lies on them."""
    return min(max(value, SMALLEST), LARGEST)


def _chart(title: str, curves: Mapping[str, Points], limits: tuple[float, float], ticks: list[float], x: str, y: str, *, log: bool) -> str:
    scale = math.log10 if log else float
    low, high = map(scale, limits)
    inner_w, inner_h = SIZE - LEFT - RIGHT, SIZE - TOP - BOTTOM

    def place(x_value: float, y_value: float) -> str:
        a, b = ((scale(value) - low) / (high - low) for value in (x_value, y_value))
        return f"{LEFT + a * inner_w:.1f},{SIZE - BOTTOM - b * inner_h:.1f}"

    parts = [f'<svg width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}">']
    parts.append(f'<text x="{LEFT}" y="14" class="title">{html.escape(title)}</text>')
    for tick in ticks:
        across, up = place(tick, limits[0]).split(","), place(limits[0], tick).split(",")
        parts.append(f'<path class="grid" d="M{across[0]} {TOP}V{SIZE - BOTTOM}M{LEFT} {up[1]}H{SIZE - RIGHT}"/>')
        parts.append(f'<text x="{across[0]}" y="{SIZE - BOTTOM + 12}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{LEFT - 4}" y="{float(up[1]) + 3:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<polyline class="ideal" points="{place(limits[0], limits[0])} {place(limits[1], limits[1])}"/>')
    for index, (name, points) in enumerate(curves.items()):
        color = COLORS[index % len(COLORS)]
        shown = " ".join(place(*point) for point in points)
        parts.append(f'<polyline points="{shown}" stroke="{color}" fill="none" stroke-width="1.6"/>')
        parts.append(f'<text x="{LEFT + 6}" y="{TOP + 12 + 12 * index}" fill="{color}">{html.escape(name)}</text>')
    parts.append(f'<text x="{LEFT + inner_w / 2}" y="{SIZE - 6}" text-anchor="middle">{html.escape(x)}</text>')
    middle = TOP + inner_h / 2
    parts.append(f'<text x="10" y="{middle}" text-anchor="middle" transform="rotate(-90 10 {middle})">{html.escape(y)}</text></svg>')
    return "".join(parts)
