"""An inspection in words: for the terminal, and as a page that is complete in itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jinja2

from zephyr.inspection import cards, figures
from zephyr.inspection.found import Inspection
from zephyr.inspection.preferences import UNNAMED
from zephyr.inspection.strata import Stratum
from zephyr.inspection.victims import FILTER

STRATA_SHOWN, REASONS_SHOWN, NAMES_SHOWN, WORDS_SHOWN = 30, 40, 20, 20
_LINES = 8  # of a list in the terminal
# what a reason means that does not say it itself; those of filters say it in their own words
_MEANS = {
    "near-duplicate prompt": "The prompt has most of its runs of words in common with that of an earlier row that stays.",
    "near-duplicate dialogue": "What is said has most of its runs of words in common with an earlier row that stays.",
    "near a prompt of the test split": "The prompt has most of its runs of words in common with one of the test split.",
    "not selected": "Nothing is wrong with them: there were more than were asked for. Their texts are where they were.",
    "duplicate of an earlier row": "An earlier row says the same to the letter.",
}


@dataclass(frozen=True)
class Fact:
    """A figure at the top of the page."""

    label: str
    value: str
    detail: str


def describe(inspection: Inspection) -> str:
    """The inspection as lines for a terminal."""
    lines = [headline(inspection)]
    for origin in inspection.origins:
        lines.append(f"{origin.path}: {origin.rows_in:,} rows came in, {_out(origin.rows_out)} went out")
    if inspection.reasons:
        lines += ["left out:", *_counted(inspection.reasons)]
    if inspection.preview is not None:
        wouldbe = preview(inspection)
        share = f"the default filters would leave out {sum(s.count for s in wouldbe):,} of {inspection.preview.looked_at:,} rows looked at"
        lines += [share + (":" if wouldbe else ""), *_counted({s.label: s.count for s in wouldbe})]
    if inspection.truecased is not None:
        skipped = f"; {_entries(inspection.truecased.skipped)} could not be read" if inspection.truecased.skipped else ""
        lines.append(f"case was mended in {inspection.truecased.dialogues:,} dialogues, {inspection.truecased.words:,} words{skipped}")
    for title, strata in groupings(inspection):
        lines += [f"{title[0].lower()}{title[1:]}:", *_counted({s.label: s.count for s in strata})]
    lines += [f"{name}: {figures.described(numbers)}" for name, numbers in inspection.numbers.items() if numbers.count]
    return "\n".join(lines)


def _counted(counts: dict[str, int]) -> list[str]:
    order = list(counts.items())
    lines = [f"  {n:>9,}  {cards.line(name, 110)}" for name, n in order[:_LINES]]
    more = order[_LINES:]
    return lines + ([f"  {sum(n for _, n in more):>9,}  in {len(more):,} more"] if more else [])


def _out(rows_out: object) -> str:
    found = dict(rows_out) if isinstance(rows_out, dict) else {}
    return f"{sum(found.values()):,} ({', '.join(f'{n:,} {split}' for split, n in found.items())})" if found else "none"


def headline(inspection: Inspection) -> str:
    """What the rows are, in a line."""
    kind = inspection.kind
    rows = f"{_rows(inspection.rows)} of {kind.name}"
    what = "" if inspection.specimens == inspection.rows else f", {inspection.specimens:,} {kind.unit}"
    unrated = kind.name == "ratings" and not any(inspection.numbers[name].count for name in ("overall score", "mean of aspects"))
    more = ", none of them rated" if unrated else ""
    bad = f"; {_rows(inspection.unreadable)} could not be read" if inspection.unreadable else ""
    return f"{rows}{what}{more}{bad}"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' if count != 1 else ''}"


def _entries(count: int) -> str:
    return f"{count:,} entr{'ies' if count != 1 else 'y'}"


def groupings(inspection: Inspection) -> Iterator[tuple[str, list[Stratum]]]:
    """The strata that are shown, by title."""
    for title, grouping in inspection.groupings.items():
        strata = grouping.samples().strata(STRATA_SHOWN, inspection.kind.order.get(title, ()))
        if strata and [stratum.label for stratum in strata] != [UNNAMED]:
            yield title, strata


def preview(inspection: Inspection) -> list[Stratum]:
    """What the filters would leave out, by reason."""
    return inspection.preview.samples().strata(REASONS_SHOWN) if inspection.preview is not None else []


def meaning(reason: str) -> str:
    """What a reason means; "" where it says so itself."""
    name = reason.split(" (")[0]
    if not name.startswith(FILTER):
        return _MEANS.get(name, "")
    from zephyr.text.filters import FILTERS

    known = FILTERS.get(name.removeprefix(FILTER))
    return known.doc if known else ""


def facts(inspection: Inspection) -> list[Fact]:
    """The figures at the top."""
    kind, numbers = inspection.kind, inspection.numbers
    rows = "" if inspection.specimens == inspection.rows else f"in {inspection.rows:,} rows"
    found = [Fact(f"{kind.unit} to look at", f"{inspection.specimens:,}", rows)]
    if inspection.origins:
        came, out = inspection.left_out_of, sum(inspection.reasons.values())
        share = f"{out / came:.1%} of {came:,} that came in" if came else ""
        found.append(Fact("left out", f"{out:,}", share))
    if inspection.preview is not None:
        wouldbe, of = sum(s.count for s in preview(inspection)), inspection.preview.looked_at
        found.append(Fact("the default filters would leave out", f"{wouldbe / max(of, 1):.1%}", f"{wouldbe:,} of {of:,} looked at"))
    if inspection.truecased is not None:
        found.append(Fact("case mended in", f"{inspection.truecased.dialogues:,}", f"{inspection.truecased.words:,} words"))
    for name in ("margin", "overall score", "mean of aspects", "turns", "characters", "words", "words of chosen"):
        if name in numbers and numbers[name].count and len(found) < 4:
            number = numbers[name]
            found.append(Fact(f"median {name}", f"{number.median:,g}".replace("-", "\N{MINUS SIGN}"), figures.described(number)))
    return found


def page(inspection: Inspection) -> str:
    """The inspection as HTML without scripts or references to other files; all that others wrote is escaped."""
    loader = jinja2.PrefixLoader({name: jinja2.PackageLoader("zephyr", name) for name in ("inspection", "report")})
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("inspection/page.html.j2").render(
        it=inspection,
        headline=headline(inspection),
        facts=facts(inspection),
        groupings=list(groupings(inspection)),
        preview=preview(inspection),
        victims=inspection.victims,
        numbers={name: numbers for name, numbers in inspection.numbers.items() if numbers.count},
        names={name: names for name, names in inspection.names.items() if names.count},
        meaning=meaning,
        line=cards.line,
        figures=figures,
        names_shown=NAMES_SHOWN,
        words_shown=WORDS_SHOWN,
    )
