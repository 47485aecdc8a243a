"""A small writer of line charts as SVG: axes with ticks, linear or logarithmic, lines with error bars, a legend."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 400, 70, 36, 50
DASHES = ("", "6 3", "2 2")
#: The colours of Okabe and Ito, which people with colour blindness can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass
class Line:
    """Points `(x, y, standard error of y or 0)`."""

    name: str
    points: list[tuple[float, float, float]]
    colour: int | None = None  # its number in the list of lines by default
    dash: int = 0


@dataclass
class Axis:
    """A title, and whether powers are at equal distances."""

    title: str
    log: bool = False
    ticks: list[float] = field(default_factory=list)  # chosen if empty
    low: float = math.nan
    high: float = math.nan

    def fit(self, values: list[float]) -> None:
        """Takes in all values; a linear axis begins at 0 if that wastes less than half of it."""
        low, high = min(values), max(values)
        if self.log:
            self.low, self.high = low / 1.15, high * 1.15
            if not self.ticks:
                powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                self.ticks = [m * 10.0**p for p in powers for m in (1, 2, 5)]
        else:
            self.low = 0.0 if 0 <= low < high / 2 else low - 0.05 * (high - low)
            self.high = high + 0.05 * (high - self.low)
            if not self.ticks:
                step = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
                step = next(step / part for part in (1, 2, 5) if (self.high - self.low) / (step / part) >= 3.5)
                self.ticks = [step * at for at in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        self.ticks = [tick for tick in self.ticks if self.low <= tick <= self.high]

    def place(self, value: float) -> float:
        """From 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def chart(title: str, x: Axis, y: Axis, lines: list[Line]) -> str:
    """The text of an SVG file. Lines without points are left out."""
    lines = [line for line in lines if line.points]
    x.fit([point[0] for line in lines for point in line.points])
    y.fit([value for line in lines for _, middle, error in line.points for value in (middle, *ends(middle, error, y.log))])
    right = 60 + 6.8 * max(len(line.name) for line in lines)  # a letter of 12 px takes less than 6.8 on average
    wide, high = WIDTH - LEFT - right, HEIGHT - TOP - BOTTOM

    def at(a: float, b: float) -> tuple[float, float]:
        return LEFT + wide * x.place(a), TOP + high * (1 - y.place(b))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, weight="bold"),
        text(LEFT + wide / 2, HEIGHT - 12, x.title, "middle"),
        f'<g transform="translate(16 {TOP + high / 2}) rotate(-90)">{text(0, 0, y.title, "middle")}</g>',
    ]
    for tick in x.ticks:
        px, _ = at(tick, y.low)
        parts.append(stroke([(px, TOP), (px, TOP + high)], "#e0e0e0"))
        parts.append(text(px, TOP + high + 16, f"{tick:g}", "middle"))
    for tick in y.ticks:
        _, py = at(x.low, tick)
        parts.append(stroke([(LEFT, py), (LEFT + wide, py)], "#e0e0e0"))
        parts.append(text(LEFT - 6, py + 4, f"{tick:g}", "end"))
    parts.append(f'<rect x="{LEFT}" y="{TOP}" width="{wide}" height="{high}" fill="none" stroke="#404040"/>')
    for number, line in enumerate(lines):
        colour = COLOURS[(number if line.colour is None else line.colour) % len(COLOURS)]
        dash = DASHES[line.dash % len(DASHES)]
        places = [at(a, b) for a, b, _ in line.points]
        parts.append(stroke(places, colour, 1.6, dash))
        for (px, py), (a, b, error) in zip(places, line.points, strict=True):
            if error > 0:
                low, top = (at(a, value)[1] for value in ends(b, error, y.log))
                parts.append(stroke([(px, low), (px, top)], colour))
            if len(places) <= 20:
                parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"/>')
        py = TOP + 8 + 18 * number
        parts.append(stroke([(WIDTH - right + 12, py), (WIDTH - right + 36, py)], colour, 1.6, dash))
        parts.append(text(WIDTH - right + 42, py + 4, line.name))
    return "\n".join([*parts, "</svg>", ""])


def ends(middle: float, error: float, log: bool) -> tuple[float, float]:
    """One standard error to either side; above 0 on a logarithmic axis."""
    return max(middle - error, middle / 2) if log else middle - error, middle + error


def text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#202020">{escape(words)}</text>'


def stroke(points: list[tuple[float, float]], colour: str, width: float = 1, dash: str = "") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"{dash}/>'
