"""Distributions as small pictures; the same numbers stand in a table beside each."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from zephyr.inspection.distributions import Bin, Numbers

_WIDTH, _HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BASE = 8, 352, 22, 120
_LABELS = 7  # below an axis
_NARROW = 34  # a bar is no wider


def histogram(name: str, numbers: Numbers) -> Markup:
    """A picture of the bins, lowest value left; how many are in the fullest stands above it.

    All text in it is of numbers and of names that this package gives.
    """
    bins = numbers.bins()
    most = max(b.count for b in bins)
    slot = (_RIGHT - _LEFT) / len(bins)
    width = min(_NARROW, slot * 0.86)
    bars = []
    for i, found in enumerate(bins):
        height = (_BASE - _TOP) * found.count / most
        x = _LEFT + i * slot + (slot - width) / 2
        bars.append(
            f'<rect x="{x:.1f}" y="{_BASE - height:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1">'
            f"<title>{found.label}: {found.count:,}</title></rect>"
        )
    at = max(range(len(bins)), key=lambda i: bins[i].count)
    x, anchor = _anchored(_LEFT + (at + 0.5) * slot)
    top = f'<text class="top" x="{x:.1f}" y="{_TOP - 7}" text-anchor="{anchor}">{most:,}</text>'
    axis = f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{_BASE}" y2="{_BASE}"/>'
    said = f"{name} of {numbers.count:,} {numbers.unit}; {described(numbers)}. The numbers are in the table below."
    return Markup(  # noqa: S704  # numbers and names of ours alone
        f'<svg class="histogram" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{said}">'
        f"{axis}{''.join(bars)}{top}{''.join(_labels(bins, slot))}</svg>"
    )


def described(numbers: Numbers) -> str:
    """The figures of a distribution in words."""
    if not numbers.count:
        return "no values"
    return f"from {_figure(numbers.low)} to {_figure(numbers.high)}, median {_figure(numbers.median)}, mean {_figure(numbers.mean)}"


def _figure(value: float | None) -> str:
    text = "-" if value is None else f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:,.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _labels(bins: Sequence[Bin], slot: float) -> list[str]:
    """Below every bar, or every second, third, …: the value, or where the bin begins."""
    each = -(-len(bins) // _LABELS)
    found = []
    for i in range(0, len(bins), each):
        middle = bins[i].low == bins[i].high or bins[i].high - bins[i].low == 1
        x = _LEFT + (i + 0.5 * middle) * slot
        x, anchor = (x, "middle") if middle and len(bins) > 1 else _anchored(x)
        text = f"{bins[i].low:,g}".replace("-", "\N{MINUS SIGN}")
        found.append(f'<text x="{x:.1f}" y="{_BASE + 17}" text-anchor="{anchor}">{text}</text>')
    return found


def _anchored(x: float) -> tuple[float, str]:
    """Where a text goes so that it does not run over the edge."""
    if x < 40:
        return max(x - 6, 2.0), "start"
    return (min(x + 6, _WIDTH - 2), "end") if x > _WIDTH - 40 else (x, "middle")
