"""Draws a roofline: a dot per step at its arithmetic intensity and rate, below what the machine can do.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", 2009. Both axes are logarithmic.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import atan2, ceil, degrees, floor, log10

_WIDTH, _HEIGHT = 960, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 70, 70
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 17px; font-weight: 600 }
.number { fill: #666; font-size: 12px }
.grid { stroke: #e4e4e4 }
.minor { stroke: #f3f3f3 }
.roof { stroke: #c0392b; stroke-width: 2; fill: none }
.label { fill: #c0392b }
.dot { fill: #2471a3; fill-opacity: .5; stroke: #1a5276; stroke-width: 1 }
.dot:hover { fill-opacity: 1 }
"""


@dataclass(frozen=True)
class Dot:
    """A step: its name, multiply-accumulates, bytes read and written, milliseconds."""

    name: str
    macs: int
    bytes_moved: int
    ms: float

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return 2 * self.macs / max(self.bytes_moved, 1)

    @property
    def gflops(self) -> float:
        return 2e-6 * self.macs / max(self.ms, 1e-9)


def roofline(title: str, steps: Sequence[Dot], peak_gflops: float, read_gbytes: float) -> str:
    """An SVG document. Steps without multiply-adds have no place in it; how many there are is said below."""
    dots = [step for step in steps if step.macs and step.ms > 0]
    plot = _Plot(dots, peak_gflops, read_gbytes)
    silent = [step for step in steps if step not in dots]
    total = sum(step.ms for step in steps) or 1.0
    below = "area of a dot: its share of the time; above the slope: data from caches; "
    below += f"{len(silent)} steps without multiply-adds are not shown"
    below += f" ({100 * sum(s.ms for s in silent) / total:.0f} % of the time)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="white"/>',
        _text(_LEFT, 30, title, "title"),
        _text(_LEFT, 50, below, "number"),
        *plot.grid(),
        *plot.roofs(),
        *(plot.dot(step, total) for step in sorted(dots, key=lambda s: -s.ms)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Plot:
    """The axes, with some room around all dots and the ridge."""

    def __init__(self, dots: Sequence[Dot], peak: float, read: float) -> None:
        self.peak, self.read = max(peak, 1e-3), max(read, 1e-3)
        ridge = self.peak / self.read
        across = [dot.intensity for dot in dots] + [ridge]
        upwards = [dot.gflops for dot in dots] + [self.peak]
        self.x0, self.x1 = log10(min(across) / 2), log10(max(across) * 2)
        self.y0, self.y1 = log10(min(upwards) / 2), log10(max(upwards) * 2)

    def x(self, intensity: float) -> float:
        return _LEFT + (log10(intensity) - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, gflops: float) -> float:
        return _HEIGHT - _BOTTOM - (log10(gflops) - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> Iterator[str]:
        left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
        for digit, value in _marks(self.x0, self.x1):
            yield f'<path class="{"grid" if digit == 1 else "minor"}" d="M{self.x(value):.1f} {top}V{bottom}"/>'
            if digit in (1, 2, 5):
                yield _text(self.x(value), bottom + 20, f"{value:g}", "number", "middle")
        for digit, value in _marks(self.y0, self.y1):
            yield f'<path class="{"grid" if digit == 1 else "minor"}" d="M{left} {self.y(value):.1f}H{right}"/>'
            if digit in (1, 2, 5):
                yield _text(left - 8, self.y(value) + 4, f"{value:g}", "number", "end")
        yield f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>'
        yield _text((left + right) / 2, _HEIGHT - 22, "operations per byte read or written", anchor="middle")
        middle = (top + bottom) / 2
        yield (
            f'<text transform="translate(24 {middle}) rotate(-90)" text-anchor="middle">'
            "1e9 operations per second (GFLOP/s)</text>"
        )

    def roofs(self) -> Iterator[str]:
        """Memory bandwidth up to the ridge, the multiply-add peak behind it."""
        low = max(10.0**self.x0, 10.0**self.y0 / self.read)
        ridge, high = self.peak / self.read, 10.0**self.x1
        points = [(low, low * self.read), (ridge, self.peak), (high, self.peak)]
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        yield f'<polyline class="roof" points="{path}"/>'
        yield _text(_WIDTH - _RIGHT - 4, self.y(self.peak) - 8, f"peak {self.peak:.0f} GFLOP/s", "label", "end")
        middle = (low * ridge) ** 0.5
        angle = degrees(atan2(self.y(self.peak) - self.y(low * self.read), self.x(ridge) - self.x(low)))
        yield (
            f'<text class="label" transform="translate({self.x(middle):.1f} {self.y(middle * self.read):.1f}) '
            f'rotate({angle:.1f}) translate(0 -8)" text-anchor="middle">memory {self.read:.1f} GB/s</text>'
        )

    def dot(self, step: Dot, total: float) -> str:
        radius = max(3.0, 40 * (step.ms / total) ** 0.5)
        title = (
            f"{step.name}: {step.ms:.4f} ms, {100 * step.ms / total:.1f} % of the time, {step.gflops:.1f} GFLOP/s "
            f"({100 * step.gflops / self.peak:.0f} % of the peak), {step.intensity:.1f} operations per byte"
        )
        where = f'cx="{self.x(step.intensity):.1f}" cy="{self.y(step.gflops):.1f}" r="{radius:.1f}"'
        return f'<circle class="dot" {where}><title>{html.escape(title)}</title></circle>'


def _marks(low: float, high: float) -> Iterator[tuple[int, float]]:
    """(leading digit, value) of every number of one digit between two powers of ten."""
    for power in range(floor(low), ceil(high) + 1):
        for digit in range(1, 10):
            if low <= log10(digit * 10.0**power) <= high:
                yield digit, digit * 10.0**power


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{style} text-anchor="{anchor}">{html.escape(text)}</text>'
