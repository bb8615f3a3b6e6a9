"""What can be seen in one pair by itself: its scores, its texts, and whether the two answers answer the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zephyr.audit.checks import Found, Item
from zephyr.audit.findings import Finding, unknown
from zephyr.audit.rows import Pair


@dataclass(frozen=True)
class Rule:
    """What makes a pair a finding, and what is said of it.

    `found` gives a word on a pair that is one, None for one that is not; `applies` says whether the pair tells at all.
    """

    name: str
    unit: str
    says: str
    advice: str
    found: Callable[[Pair], str | None]
    applies: Callable[[Pair], bool] = lambda _: True
    missing: str = "no row has a pair"


def _scores(pair: Pair) -> str:
    return f"{pair.score_chosen:g} and {pair.score_rejected:g}"


RULES = (
    Rule(
        "ties",
        "pairs with two scores",
        "Both answers have the same score: which of them is the better one was not said by whoever scored them.",
        "Leave them out, as `zephyr binarize` does; where a second score has settled them, say `--ignore ties`.",
        lambda p: _scores(p) if p.scores and p.scores[0] == p.scores[1] else None,
        lambda p: p.scores is not None,
        "no row has two scores",
    ),
    Rule(
        "reversed",
        "pairs with two scores",
        "The rejected answer has the higher score.",
        "Find out which is right, the order or the scores; `zephyr binarize` leaves such pairs out.",
        lambda p: _scores(p) if p.scores and p.scores[0] < p.scores[1] else None,
        lambda p: p.scores is not None,
        "no row has two scores",
    ),
    Rule(
        "identical",
        "pairs",
        "Both answers are the same text: such a pair has no gradient, and counts in every average.",
        "Leave them out; with `invalid=drop`, `zephyr binarize` does.",
        lambda p: "both the same" if p.identical else None,
    ),
    Rule(
        "empty_answers",
        "pairs",
        "An answer has no text.",
        "Leave them out: what is learnt is to end at once, or not to, and nothing else.",
        lambda p: None if p.chosen.strip() and p.rejected.strip() else f"{'rejected' if p.chosen.strip() else 'chosen'} is empty",
    ),
    Rule(
        "different_prompts",
        "pairs",
        "The two answers stand after different conversations, so they are no answers to compare.",
        "Cut the two where they part: all before the last answer must be the same.",
        lambda p: "the turns before the answers differ" if p.apart else None,
    ),
    Rule(
        "bad_scores",
        "pairs",
        "A score is there and is no finite number.",
        "Mend the column; a score that is a text or NaN is not one that was read as it was meant.",
        lambda p: p.bad_score or None,
    ),
)


class Judged:
    """How many pairs a rule finds."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self._of, self._found = rule, 0, Found()

    def see(self, item: Item) -> None:
        """Take a pair into account."""
        if item.pair is None or not self._rule.applies(item.pair):
            return
        self._of += 1
        if what := self._rule.found(item.pair):
            self._found.add(item, what)

    def findings(self) -> list[Finding]:
        """One."""
        rule = self._rule
        if not self._of:
            return [unknown(rule.name, rule.unit, f"Not recorded: {rule.missing}.")]
        return [self._found.finding(rule.name, self._of, rule.unit, rule.says, rule.advice)]
