"""Ratings that are there and are none: such an answer is left out of all that is measured on ratings, and nothing would say so."""

from __future__ import annotations

from zephyr.audit.checks import Found, Item
from zephyr.audit.findings import Finding, unknown

_NAME, _UNIT = "bad_ratings", "prompts with rated answers"


class Ratings:
    """Prompts whose answers have a rating that cannot be read, or that have no answers."""

    def __init__(self) -> None:
        self._of, self._found = 0, Found()

    def see(self, item: Item) -> None:
        """Take a row into account."""
        if item.rated is None:
            return
        self._of += 1
        if item.rated.bad_rating:
            self._found.add(item, item.rated.bad_rating)

    def findings(self) -> list[Finding]:
        """One."""
        if not self._of:
            return [unknown(_NAME, _UNIT, "not recorded: no rated answers; give `--ratings FILE`.")]
        says = "An answer has a score or a rating that is no number in its range, or there is no answer: `zephyr binarize` refuses the row."
        advice = "Mend the column: an overall score is from 1 to 10, an aspect a whole number from 1 to 5; null where there is none."
        return [self._found.finding(_NAME, self._of, _UNIT, says, advice)]
