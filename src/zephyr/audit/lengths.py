"""Whether length tells the chosen answer from the rejected one."""

from __future__ import annotations

from collections import defaultdict

from zephyr.audit.checks import Item
from zephyr.audit.findings import Finding, Level, unknown
from zephyr.audit.measures import pearson, spearman
from zephyr.evals.statistics import share


class Lengths:
    """Whether the longer answer is the one that is preferred."""

    def __init__(self) -> None:
        self._prompts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])  # of each: chosen is longer, as long, pairs
        self._differences: list[tuple[float, float]] = []

    def see(self, item: Item) -> None:
        """Take a pair into account."""
        pair = item.pair
        if pair is None or pair.identical:
            return
        difference = len(pair.chosen) - len(pair.rejected)
        group = self._prompts[item.context_key]
        group[0] += difference > 0
        group[1] += difference == 0
        group[2] += 1
        if pair.scores:
            self._differences.append((float(difference), pair.scores[0] - pair.scores[1]))

    def findings(self) -> list[Finding]:
        """Two."""
        return [self._share(), self._correlation()]

    def _share(self) -> Finding:
        name, unit = "chosen_longer", "pairs with two different answers"
        groups = list(self._prompts.values())
        estimate = share([(longer, n) for longer, _, n in groups])
        # does length decide? Answers of one length count half on either side
        even = share([(longer + same / 2, n) for longer, same, n in groups])
        if estimate is None or even is None:
            return unknown(name, unit, "Not recorded: no row has two different answers.")
        longer, same = (sum(group[i] for group in groups) for i in (0, 1))
        says = "Length does not tell the two apart"
        advice = ""
        if not even.low <= 0.5 <= even.high:
            says = f"The {'longer' if even.low > 0.5 else 'shorter'} answer is preferred"
            advice = "Expect answers to change in length; compare models with length control, or draw pairs of like length."
        says += f": chosen is longer in {estimate.value:.1%} of them, 95% interval {estimate.low:.1%} to {estimate.high:.1%}."
        numbers = {"share": estimate.value, "ci95": [estimate.low, estimate.high], "shorter": estimate.items - longer - same}
        return Finding(name, "note" if advice else "clear", longer, estimate.items, unit, says, advice, numbers=numbers, measure=True)

    def _correlation(self) -> Finding:
        name, unit = "length_and_score", "pairs with two scores"
        ranks, line = spearman(self._differences), pearson(self._differences)
        if ranks is None or line is None:
            return unknown(name, unit, "Not measured: too few pairs have two scores, or all differ by as much.")
        level: Level = "clear" if ranks.low <= 0 <= ranks.high else "note"
        says = (
            f"The difference in length and the difference in score go together by a rank correlation of {ranks.value:.2f}, 95% interval "
            f"{ranks.low:.2f} to {ranks.high:.2f} (linear: {line.value:.2f})."
        )
        numbers = {"spearman": ranks.value, "ci95": [ranks.low, ranks.high], "pearson": line.value}
        advice = "" if level == "clear" else "The scores may be scores of length."
        return Finding(name, level, 0, ranks.n, unit, says, advice, numbers=numbers, measure=True)
