"""The pictures: an `<svg>` for the page, in the page's colours and font, and the same as a PNG file."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr.report.drawing import drawing, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# the page's colours on white, for files; and stand-ins that become its CSS variables, so that the page's picture is legible in the dark
ON_WHITE = {
    "ink": "#1d2126",
    "muted": "#5a626b",
    "grid": "#dededa",
    "base": "#6a7280",
    "dsft": "#2767b0",
    "ddpo": "#0b7c6c",
    "rejected": "#b8530f",
}
STAND_INS = {name: f"#0{i}0{i}0{i}" for i, name in enumerate(ON_WHITE, 1)}
SERIES = ("dsft", "ddpo", "rejected", "base")

Interval = tuple[float, float]
Palette = Mapping[str, str]


@dataclass(frozen=True)
class Picture:
    """A drawn picture: for the page, for a file, and in words for those who cannot see it."""

    name: str
    title: str
    words: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class Dots:
    """One panel: a value with its interval for each row; None where a row has none."""

    title: str
    values: Sequence[tuple[float, Interval | None] | None]
    mark: float | None = None


@dataclass(frozen=True)
class Line:
    """One line, with intervals where there are any; a thin one is one of several trainings."""

    label: str
    colour: str
    points: Sequence[tuple[float, float]]
    ends: Sequence[Interval | None] = ()
    thin: bool = False
    dashed: bool = False


def dots(name: str, title: str, rows: Sequence[str], panels: Sequence[Dots], colours: Sequence[str] = SERIES) -> Picture:
    """A row for each model, in the colours given, in turn; a panel for each measure."""

    def draw(figure: Figure, palette: Palette) -> None:
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), number + 1)
            _frame(axes, panel.title, palette, grid="x")
            if panel.mark is not None:
                axes.axvline(panel.mark, color=palette["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
            for row, measured in enumerate(panel.values):
                if measured is None:
                    continue
                value, ends = measured
                colour = palette[colours[row % len(colours)]]
                if ends:
                    axes.plot(ends, [-row, -row], color=colour, linewidth=2)
                axes.plot([value], [-row], color=colour, marker="o", markersize=6)
            axes.set_yticks([-row for row in range(len(rows))], rows if number == 0 else [""] * len(rows))
            axes.set_ylim(-len(rows) + 0.5, 0.5)

    said = "; ".join(
        f"{panel.title}: " + ", ".join(f"{row} {of[0]:.3f}" for row, of in zip(rows, panel.values, strict=True) if of) for panel in panels
    )
    return _picture(name, title, said, (2.1 + 2.4 * len(panels), 0.9 + 0.42 * len(rows)), draw)


def lines(name: str, title: str, across: str, up: str, found: Sequence[Line], *, mark: float | None = None, whole: bool = True) -> Picture:
    """Lines over steps or epochs."""

    def draw(figure: Figure, palette: Palette) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        _frame(axes, up, palette, grid="y")
        axes.set_xlabel(across, labelpad=3, color=palette["muted"])
        if mark is not None:
            axes.axhline(mark, color=palette["muted"], linewidth=0.9, linestyle=(0, (4, 3)))
        for number, line in enumerate(found):
            xs, ys = [x for x, _ in line.points], [y for _, y in line.points]
            look: dict[str, Any] = {
                "color": palette[line.colour],
                "linewidth": 0.9 if line.thin else 2,
                "alpha": 0.45 if line.thin else 1.0,
            }
            look |= {"linestyle": (0, (5, 2))} if line.dashed else {}
            if line.ends:  # side by side, so that intervals do not hide one another
                xs = [x + 0.05 * (number - (len(found) - 1) / 2) for x in xs]
                for x, ends in zip(xs, line.ends, strict=True):
                    if ends:
                        axes.plot([x, x], ends, color=palette[line.colour], linewidth=1.1)
            axes.plot(xs, ys, label=None if line.thin else line.label, marker=None if line.thin else "o", markersize=4, **look)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(frameon=False, fontsize=10, labelcolor=palette["muted"])

    said = "; ".join(
        f"{line.label} from {line.points[0][1]:.3f} to {line.points[-1][1]:.3f}" for line in found if line.points and not line.thin
    )
    return _picture(name, title, said, (5.4, 3.4), draw)


def radar(name: str, title: str, spokes: Sequence[str], models: Mapping[str, Sequence[float]]) -> Picture:
    """A polygon for each model, over scores from 0 to 10."""

    def draw(figure: Figure, palette: Palette) -> None:
        axes: Any = figure.add_subplot(projection="polar")
        angles = [2 * math.pi * i / len(spokes) for i in range(len(spokes))]
        axes.set_xticks(angles, spokes, color=palette["muted"])
        axes.set_ylim(0, 10)
        axes.set_yticks([2, 4, 6, 8], ["2", "4", "6", "8"], color=palette["muted"], fontsize=9)
        axes.grid(color=palette["grid"])
        axes.spines["polar"].set_color(palette["grid"])
        for number, (label, values) in enumerate(models.items()):
            colour = palette[SERIES[number % len(SERIES)]]
            axes.plot([*angles, angles[0]], [*values, values[0]], color=colour, linewidth=2, label=label)
        if models:
            axes.legend(frameon=False, fontsize=10, labelcolor=palette["muted"], loc="upper left", bbox_to_anchor=(1.05, 1.05))

    said = "; ".join(
        f"{model}: " + ", ".join(f"{s} {v:.2f}" for s, v in zip(spokes, values, strict=True)) for model, values in models.items()
    )
    return _picture(name, title, said or "no model's scores were given", (6.0, 4.2), draw)


# --- drawing ---------------------------------------------------------------------------------------------------


def _frame(axes: Axes, title: str, palette: Palette, *, grid: str) -> None:
    axes.grid(axis=grid, color=palette["grid"], linewidth=0.7)  # type: ignore[arg-type]  # x or y
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, pad=5, labelcolor=palette["muted"])
    axes.set_title(title, fontsize=11, color=palette["muted"], loc="left")


def _picture(name: str, title: str, words: str, size: tuple[float, float], draw: Callable[[Figure, Palette], None]) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with drawing(name, {"font.size": 11}):
        page, file = Figure(figsize=size, facecolor="none"), Figure(figsize=size, facecolor="white", dpi=144)
        draw(page, STAND_INS)
        draw(file, ON_WHITE)
        svg, image = element(page, name, f"{title}. {words}", STAND_INS), io.BytesIO()
        FigureCanvasAgg(file).print_png(image, metadata={"Software": None})  # type: ignore[no-untyped-call]  # matplotlib gives it no types
    return Picture(name, title, words, svg, image.getvalue())
