"""Charts of a search as inline SVG: points in two figures, sizes as bars, memory over the steps."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 28, 48
BEFORE, AFTER, CHOSEN, PLAIN = "#9aa7b4", "#2a6fb0", "#d1462f", "#2a6fb0"


@dataclass(frozen=True)
class Dot:
    """One model: `kind` is chosen, float, pareto or other; `hollow`: a draft."""

    x: float
    y: float
    label: str
    kind: str
    hollow: bool = False


def scatter(
    title: str, x_name: str, y_name: str, dots: Sequence[Dot], x_limit: float | None, y_limit: float | None
) -> str:
    """Dots, the limits as lines, and the Pareto front as steps. Dots far above the rest stand at the upper edge."""
    far = [1.2 * max([d.x for d in dots] + [x_limit or 0.0]), _ceiling(dots, y_limit)]
    frame = _Frame(far[0] or 1.0, far[1])
    parts = [frame.axes(title, x_name, y_name)]
    if x_limit is not None:
        x = frame.x(x_limit)
        parts.append(_dashed(x, x, TOP, HEIGHT - BOTTOM))
    if y_limit is not None:
        y = frame.y(y_limit)
        parts.append(_dashed(LEFT, WIDTH - RIGHT, y, y))
    parts.append(frame.front([d for d in dots if d.kind != "other"]))
    parts += [frame.dot(d) for d in sorted(dots, key=lambda d: d.kind == "chosen")]
    return _svg(parts, title)


def _ceiling(dots: Sequence[Dot], limit: float | None) -> float:
    """The largest drop that is drawn to scale: those of the models that matter are not to vanish beside the worst."""
    known = sorted(max(d.y, 0.0) for d in dots)
    chosen = max((d.y for d in dots if d.kind == "chosen"), default=0.0)
    wanted = max(4 * chosen, 3 * (limit or 0.0), known[len(known) // 2])
    return min(1.1 * known[-1], wanted) or known[-1] or 1e-3


class _Frame:
    """Axes from 0 to `right` and `top`."""

    def __init__(self, right: float, top: float) -> None:
        self.right, self.top = right, top

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value / self.right, 1.0)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(value / self.top, 0.0), 1.0)

    def axes(self, title: str, x_name: str, y_name: str) -> str:
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#555"/>']
        for value in _ticks(self.right):
            x = self.x(value)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}" stroke="#555"/>')
            parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>')
        for value in _ticks(self.top):
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        parts.append(f'<text x="{LEFT}" y="16" font-weight="bold">{html.escape(title)}</text>')
        parts.append(f'<text x="{right}" y="{HEIGHT - 10}" text-anchor="end">{html.escape(x_name)}</text>')
        turned = f'x="14" y="{TOP + 4}" transform="rotate(-90 14 {TOP + 4})"'
        parts.append(f'<text {turned} text-anchor="end">{html.escape(y_name)}</text>')
        return "".join(parts)

    def dot(self, d: Dot) -> str:
        size = 7 if d.kind == "chosen" else 5
        colour = {"chosen": CHOSEN, "float": "#333", "pareto": PLAIN}.get(d.kind, BEFORE)
        fill = "#fff" if d.hollow else colour
        return (
            f'<circle cx="{self.x(d.x):.1f}" cy="{self.y(d.y):.1f}" r="{size}" fill="{fill}" stroke="{colour}" '
            f'stroke-width="2"><title>{html.escape(d.label)}</title></circle>'
        )

    def front(self, dots: Sequence[Dot]) -> str:
        """The best drop that can be had at each x or below."""
        path, best = "", None
        for d in sorted(dots, key=lambda d: (d.x, d.y)):
            if best is None or d.y < best:
                path += (
                    f"M{self.x(d.x):.1f} {self.y(d.y):.1f}" if best is None else f"H{self.x(d.x):.1f}V{self.y(d.y):.1f}"
                )
                best = d.y
        return f'<path d="{path}" fill="none" stroke="{PLAIN}" stroke-opacity=".5"/>' if path else ""


def _ticks(far: float) -> list[float]:
    """Round numbers from 0 to `far`, four to eight of them."""
    if far <= 0:
        return [0.0]
    step = 10.0 ** floor(log10(far))
    step = next(step * f for f in (1.0, 0.5, 0.2, 0.1) if far / (step * f) >= 4)
    return [round(k * step, 12) for k in range(int(far / step) + 1)]


def bars(title: str, rows: Sequence[tuple[str, int, int]]) -> str:
    """(what, bytes before, bytes now) as pairs of bars."""
    high = TOP + 44 * len(rows) + 24
    most = max((max(a, b) for _, a, b in rows), default=1) or 1
    parts = [f'<text x="10" y="16" font-weight="bold">{html.escape(title)}</text>']
    for k, (what, before, now) in enumerate(rows):
        y = TOP + 44 * k
        parts.append(f'<text x="10" y="{y + 20}">{html.escape(what)}</text>')
        for value, colour, at in ((before, BEFORE, y), (now, AFTER, y + 17)):
            width = 330 * value / most
            parts.append(f'<rect x="110" y="{at}" width="{width:.1f}" height="15" fill="{colour}"/>')
            parts.append(f'<text x="{116 + width:.1f}" y="{at + 12}">{value:,}</text>')
    parts.append(_legend(high - 8))
    return _svg(parts, title, high)


def memory(title: str, before: Sequence[int], now: Sequence[int], limit: float | None) -> str:
    """Bytes of the arena in use over the steps of both models, each drawn over the whole width."""
    frame = _Frame(1.0, 1.1 * max([*before, *now, int(limit or 0), 1]))
    parts = [frame.axes(title, "steps, from the first to the last", "bytes")]
    for values, colour in ((before, BEFORE), (now, AFTER)):
        path = "".join(
            f"{'H' if k else 'M'}{frame.x(k / len(values)):.1f}{'V' if k else ' '}{frame.y(v):.1f}"
            for k, v in enumerate(values)
        )
        parts.append(
            f'<path d="{path}H{frame.x(1.0):.1f}" fill="none" stroke="{colour}" stroke-width="2"/>' if path else ""
        )
    if limit is not None:
        y = frame.y(limit)
        parts.append(_dashed(LEFT, WIDTH - RIGHT, y, y))
    parts.append(_legend(HEIGHT - 10, LEFT))
    return _svg(parts, title)


def _dashed(x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{CHOSEN}" stroke-dasharray="5 4"/>'


def _legend(y: int, x: int = 110) -> str:
    rows = ((BEFORE, "float model", x), (AFTER, "compressed", x + 110))
    return "".join(
        f'<rect x="{at}" y="{y - 9}" width="10" height="10" fill="{colour}"/><text x="{at + 15}" y="{y}">{word}</text>'
        for colour, word, at in rows
    )


def _svg(parts: Sequence[str], title: str, height: int = HEIGHT) -> str:
    style = "font:12px system-ui,sans-serif;max-width:100%"
    name = html.escape(title, quote=True)
    return (
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'style="{style}">' + "\n".join(parts) + "</svg>"
    )
