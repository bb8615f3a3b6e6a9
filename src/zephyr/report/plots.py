"""Curves of the two training stages, as SVG to be set into a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr.records import Row
from zephyr.report.drawing import drawing, element
from zephyr.report.numbers import count, finite, fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_POINTS = 240  # of a curve; a longer one is drawn as the means of equal stretches of steps
LN_2 = math.log(2)

# stand-ins that matplotlib can draw with, and the CSS variables they become
COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "dsft": "#040404",
    "ddpo": "#050505",
    "chosen": "#060606",
    "rejected": "#070707",
    **{f"run{i}": f"#0{i}0{i}ff" for i in range(1, 7)},
}
RUNS = 6  # as many as there are colours for

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """One line: what it is called, whether it is on train or test rows, its colour, its points (step, value)."""

    label: str
    kind: str
    colour: str
    points: tuple[Point, ...]
    steps_per_point: int = 1


@dataclass(frozen=True)
class Chart:
    """A picture, with what a reader needs beside it.

    Attributes:
        name: unique in the page, for ids.
        unit: what the vertical axis counts.
        guide: a value worth comparing with, and its meaning.
        ends: last steps of epochs, drawn as thin lines.
    """

    name: str
    title: str
    unit: str
    curves: tuple[Curve, ...]
    guide: tuple[float, str] | None = None
    ends: tuple[float, ...] = ()

    @property
    def described(self) -> str:
        """What the picture shows, in words, for those who cannot see it."""
        lines = [
            f"{c.label}{f' (means of {c.steps_per_point} steps)' if c.steps_per_point > 1 else ''} "
            f"from {fixed(c.points[0][1])} to {fixed(c.points[-1][1])}"
            for c in self.curves
        ]
        first, last = min(c.points[0][0] for c in self.curves), max(c.points[-1][0] for c in self.curves)
        return f"{self.title} ({self.unit}) over steps {count(first)} to {count(last)}: {'; '.join(lines)}."

    @property
    def thinned(self) -> str:
        """What a point of a thinned curve stands for; "" where every step is drawn."""
        most = max(c.steps_per_point for c in self.curves)
        return f"A point on train is the mean of {most} steps." if most > 1 else ""

    def svg(self) -> str:
        """The picture."""
        return draw(self)


def sft_charts(log: Sequence[Row]) -> list[Chart]:
    """The curve of dSFT; [] where nothing was logged."""
    return _charts(_chart(log, "sft-loss", "dSFT loss", "nats per learnt token", {"loss": ("loss", "dsft")}))


def dpo_charts(log: Sequence[Row], objective: str = "dpo", beta: object = None) -> list[Chart]:
    """The curves of dDPO with an objective and its beta; those that were not logged are left out."""
    pair = ("chosen", "chosen"), ("rejected", "rejected")
    guide = _start(objective, beta)
    return _charts(
        _chart(log, "dpo-loss", "dDPO loss", loss_unit(objective), {"loss": ("loss", "ddpo")}, guide=guide),
        _chart(
            log,
            "accuracy",
            "Reward accuracy",
            "share of pairs with the chosen answer ahead",
            {"accuracy": ("accuracy", "ddpo")},
            guide=(0.5, "chance"),
        ),
        _chart(log, "margin", "Reward margin", "reward of chosen minus rejected", {"margin": ("margin", "ddpo")}, guide=(0.0, "")),
        _chart(log, "logps", "Log-probabilities", "nats, summed over an answer", {f"{n}_logp": (n, colour) for n, colour in pair}),
        _displaced(log, objective, beta),
    )


def _displaced(log: Sequence[Row], objective: str, beta: object) -> Chart | None:
    """How far the answers moved from where they started; of an objective without a reference, the rewards as they are."""
    values = {f"{name}_reward": (name, name) for name in ("chosen", "rejected")}
    scale = finite(beta)
    if objective == "simpo" or not scale:
        return _chart(log, "rewards", "Rewards", "as the objective has them", values, guide=(0.0, ""))
    nats = [{**row, **{key: value / scale for key in values if (value := finite(row.get(key))) is not None}} for row in log]
    unit = "change of log-probability since the start, nats (the reward over β)"
    return _chart(nats, "rewards", "Likelihood displacement", unit, values, guide=(0.0, "where it started"))


def loss_unit(objective: str) -> str:
    """What the loss of a preference objective counts."""
    return "squared nats per pair" if objective == "ipo" else "nats per pair"


def _start(objective: str, beta: object) -> tuple[float, str] | None:
    """The loss where policy and reference agree, and what it means; None where there is no reference to agree with."""
    if objective in ("dpo", "cdpo"):
        return LN_2, "ln 2: no preference yet"
    known = finite(beta)
    if objective == "ipo" and known:
        return 1 / (4 * known**2), "1 / (4 β²): no preference yet"
    return None


def _charts(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _chart(
    log: Sequence[Row], name: str, title: str, unit: str, values: Mapping[str, tuple[str, str]], guide: tuple[float, str] | None = None
) -> Chart | None:
    curves = []
    for kind in ("train", "test"):
        for key, (label, colour) in values.items():
            found = points(log, kind, key)
            if found:
                # a test point is of all test rows: the last of them is a result, not one of many to take the mean of
                thin, size = thinned(found) if kind == "train" else (tuple(found), 1)
                curves.append(Curve(f"{label}, {kind}" if len(values) > 1 else kind, kind, colour, thin, size))
    return Chart(name, title, unit, tuple(curves), guide=guide, ends=_epoch_ends(log)) if curves else None


def points(log: Sequence[Row], kind: str, key: str) -> list[Point]:
    """The finite values of one kind of row, in the order of their steps."""
    found = [(finite(row.get("step")), finite(row.get(key))) for row in log if row.get("kind") == kind]
    return sorted((step, value) for step, value in found if step is not None and value is not None)


def thinned(found: Sequence[Point]) -> tuple[tuple[Point, ...], int]:
    """(the means of equal stretches of points, as few as may be drawn; how many points each is of)."""
    size = -(-len(found) // MAX_POINTS)
    if size == 1:
        return tuple(found), 1
    groups = [found[i : i + size] for i in range(0, len(found), size)]
    return tuple((sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups), size


def _epoch_ends(log: Sequence[Row]) -> tuple[float, ...]:
    """The steps that end an epoch, but for the last; () where there are too many to be worth a line."""
    done = [(finite(row.get("step")), finite(row.get("epoch"))) for row in log if row.get("kind") == "train"]
    ends = [step for step, epoch in done if step is not None and epoch is not None and abs(epoch - round(epoch)) < 1e-9]
    return tuple(ends[:-1]) if len(ends) <= 10 else ()


# --- drawing ---------------------------------------------------------------------------------------------------

_STYLE: dict[str, Any] = {
    "font.size": 12,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.linewidth": 0.8,
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "xtick.color": COLOURS["grid"],
    "ytick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "text.color": COLOURS["muted"],
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.7,
}


def draw(chart: Chart) -> str:
    """A chart as an `<svg>` element: deterministic, without metadata, with ids that no other chart has."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with drawing(chart.name, _STYLE):
        figure = Figure(figsize=(5.0, 3.2))  # 360 by 230 points: the width of a phone, and of a third of a wide page
        axes = figure.add_subplot()
        _decorate(axes, chart)
        for curve in chart.curves:
            _line(axes, curve)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        return element(figure, chart.name, chart.described, COLOURS)


def _decorate(axes: Axes, chart: Chart) -> None:
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, pad=5)
    axes.set_xlabel("step", labelpad=3)
    axes.margins(x=0.02, y=0.08)
    for end in chart.ends:
        axes.axvline(end, color=COLOURS["grid"], linewidth=0.8, linestyle=(0, (2, 3)))
    if chart.guide:
        value, meaning = chart.guide
        axes.axhline(value, color=COLOURS["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            meaning, (1, value), xycoords=("axes fraction", "data"), xytext=(-2, 4), textcoords="offset points", ha="right", fontsize=11
        )


def _line(axes: Axes, curve: Curve) -> None:
    xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
    few = len(xs) == 1
    if curve.kind == "test":
        axes.plot(xs, ys, color=COLOURS[curve.colour], linewidth=2, marker="o", markersize=4 if len(xs) <= 40 else 2, zorder=3)
    else:
        axes.plot(xs, ys, color=COLOURS[curve.colour], linewidth=1.2, alpha=0.6, marker="." if few else None, zorder=2)


# --- intervals -------------------------------------------------------------------------------------------------


def whisker(value: float, ends: tuple[float, float] | None, scale: tuple[float, float], mark: float | None, colour: str) -> str:
    """A value and its interval on a scale, as a small `<svg>`: a dot, a line, and a tick at `mark`.

    It repeats what stands beside it in numbers and is therefore hidden from screen readers.
    """
    low, high = scale
    span = high - low or 1.0

    def x(at: float) -> str:
        return f"{6 + 148 * min(max((at - low) / span, 0.0), 1.0):.2f}"

    parts = ['<line class="axis" x1="6" x2="154" y1="10" y2="10"/>']
    if mark is not None and low <= mark <= high:
        parts.append(f'<line class="mark" x1="{x(mark)}" x2="{x(mark)}" y1="2" y2="18"/>')
    if ends:
        parts.append(f'<line class="range" x1="{x(ends[0])}" x2="{x(ends[1])}" y1="10" y2="10" style="stroke: var(--{colour})"/>')
    parts.append(f'<circle cx="{x(value)}" cy="10" r="4.5" style="fill: var(--{colour})"/>')
    return f'<svg class="whisker" viewBox="0 0 160 20" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
