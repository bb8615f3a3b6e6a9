"""What was found, in words: numbers with their intervals, and what could have been shown."""

from __future__ import annotations

from zephyr.reproduce.compare import Found
from zephyr.reproduce.evidence import MEASURES
from zephyr.reproduce.preset import Margins

NO_INTERVAL = "no interval: all {} prompts alike"
ALIKE = "all {} prompts alike: the widest interval that there can be then"


def points(value: float) -> str:
    """A share or a difference of shares in points."""
    return f"{100 * value:.1f}".replace("-", "\N{MINUS SIGN}")


def said(found: Found, measure: str, margin: float = 0.0) -> str:
    """A difference with its interval, and what could have been shown: from nought, and from the margin that it is decided by."""
    if MEASURES[measure].share:
        value, low, high, least = (points(x) for x in (found.value, found.low, found.high, found.smallest))
        unit = " points"
    else:
        value, low, high, least = (f"{x:.3f}".replace("-", "\N{MINUS SIGN}") for x in (found.value, found.low, found.high, found.smallest))
        unit = ""
    sign = "+" if found.value > 0 else ""
    if not found.ci95:  # where no prompt differs, their spread says nothing of what could have been shown
        return f"{sign}{value}{unit} ({NO_INTERVAL.format(found.prompts)}; {trainings(found)})"
    if not found.error:
        return f"{sign}{value}{unit} [{low}, {high}] ({ALIKE.format(found.prompts)}; {trainings(found)})"
    of = f"{found.prompts} prompts, {trainings(found)}"
    shown = f"{least}{unit} or more could have been shown"
    if margin:
        shown += f" from nought, {points(found.smallest + margin)} from the margin of {points(margin)}"
    if MEASURES[measure].share and found.smallest > 1:
        shown = "no difference that there can be is sure to be shown by so few"
    return f"{sign}{value}{unit} [{low}, {high}] ({of}; {shown})"


def limit(margins: Margins, name: str, words: str) -> str:
    """What a verdict is decided by besides nought, and who set it: no key of an artifact holds it, so that it could be set afterwards."""
    value, default = (getattr(of, name) for of in (margins, Margins()))
    if value == default:
        return f" {points(value)} {words}: the default, set before any run of `small`."
    return f" {points(value)} {words}: set for this command; the default is {points(default)}."


def trainings(found: Found) -> str:
    """How many of each model."""
    return f"{found.seeds} trainings each" if found.seeds > 1 else "one training each"


def level(found: Found) -> str:
    """A share with its interval, which it always has."""
    return f"{points(found.value)}% [{points(found.low)}, {points(found.high)}]"
