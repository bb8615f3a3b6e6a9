"""How any picture is drawn: by matplotlib under settings of our own, and set into a page as an `<svg>` in the page's colours and font.

Nothing in a picture depends on when or where it was drawn. Text is text; colours are stand-ins that become the page's CSS variables, so
that one picture is legible in light and dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "axes.facecolor": "none",  # the page shows through, light or dark
    "axes.unicode_minus": True,
    "figure.constrained_layout.use": True,
}


@contextmanager
def drawing(name: str, style: Mapping[str, Any]) -> Iterator[None]:
    """Matplotlib under these settings, and its defaults for the rest: a user's own matplotlibrc changes nothing.

    A Figure made here is its own, not pyplot's: no global state, no window system.

    Args:
        name: of the picture; the ids in its `<svg>` are made from it.
        style: settings beside those that all pictures have.
    """
    import matplotlib

    settings: Any = {**_STYLE, **style, "svg.hashsalt": name}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield


def element(figure: Figure, name: str, words: str, stand_ins: Mapping[str, str]) -> str:
    """A figure as an `<svg>` alone: no prologue, no metadata, ids that no other picture has, the page's colours and font.

    Args:
        figure: drawn under `drawing`.
        name: unique in the page.
        words: what it shows, for those who cannot see it.
        stand_ins: the colours that it was drawn with, each by the CSS variable that it becomes.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    drawn = io.StringIO()
    FigureCanvasSVG(figure).print_svg(drawn, metadata={"Date": None})  # type: ignore[no-untyped-call]  # matplotlib gives it no types
    text = drawn.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for variable, stand_in in stand_ins.items():
        text = text.replace(stand_in, f"var(--{variable})")
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None  # matplotlib always writes one
    label = words.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg {box[0]} xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{label}">{body}'
