"""Rated answers that `zephyr binarize` refuses: such a rating is left out of all that is measured, and nothing would say so."""

from __future__ import annotations

from zephyr.audit.checks import Found, Item
from zephyr.audit.findings import Finding, excerpt, unknown

_NAME, _UNIT = "bad_ratings", "prompts with rated answers"


class Ratings:
    """Prompts one of whose answers, or its rating, cannot be read, or that have no answers."""

    def __init__(self) -> None:
        self._of, self._found = 0, Found()

    def see(self, item: Item) -> None:
        """Take a row into account."""
        if item.rated is None:
            return
        self._of += 1
        if item.rated.bad_rating:
            self._found.add(item, excerpt(item.rated.bad_rating, 160))

    def findings(self) -> list[Finding]:
        """One."""
        if not self._of:
            return [unknown(_NAME, _UNIT, "not recorded: no rated answers; give `--ratings FILE`.")]
        says = "An answer has no rating, or one that is none, or lacks its model; or there is no answer: `zephyr binarize` refuses the row."
        advice = (
            "Mend the column: `overall_score` is a number from 1 to 10, `rating` of an aspect a whole number from 1 to 5 (or `Rating` one "
            'of the texts "1" to "5" and "N/A"), null where there is none; leave out an answer that has none at all.'
        )
        return [self._found.finding(_NAME, self._of, _UNIT, says, advice)]
