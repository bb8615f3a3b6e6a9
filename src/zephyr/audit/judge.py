"""What can be seen in rated answers: whether overall score and aspects agree, and whether the judge goes by the order it was shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from zephyr.audit.checks import Item
from zephyr.audit.findings import EXAMPLES, Example, Finding, Level, Table, excerpt, unknown
from zephyr.audit.measures import ALPHA, ENOUGH, FIXED, normal_tails, pearson, spearman
from zephyr.audit.rows import Answer, Rated

LOW_MEAN = 3.0  # below the middle of 1 to 5
AGREES = 0.3  # a rank correlation below which a critique and its aspects say different things
SHIFT = 0.1  # of a score, on its scale, by the place where the judge saw the answer


class Judge:
    """Whether the overall score says what the aspects say, and whether the place where an answer was shown decides its score."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float]] = []
        self._tens = 0
        self._low: list[Example] = []
        self._many_low = 0
        self._deviations: dict[int, list[float]] = defaultdict(list)
        self._shown = self._in_order = 0
        self._given = False

    def see(self, item: Item) -> None:
        """Take a row's rated answers into account, or the ratings that its pair keeps, where no rated answers are given."""
        if item.rated is not None:
            self.know(item.where, item.rated)
        elif item.pair is not None and not self._given:
            for mean, overall in item.pair.ratings:
                self._compare(item.where, overall, mean, item.pair.prompt)

    def know(self, where: str, rated: Rated) -> None:
        """Rated answers."""
        self._given = True
        for i, answer in enumerate(rated.answers):
            if answer.mean is not None and answer.overall is not None:
                self._compare(f"{where}, answer {i + 1}", answer.overall, answer.mean, rated.prompt)
        shown = [(a.shown, score) for a in rated.answers if a.shown is not None and (score := _score(a)) is not None]
        if len({place for place, _ in shown}) == len(shown) > 1:
            middle = sum(score for _, score in shown) / len(shown)
            self._shown += 1
            self._in_order += shown == sorted(shown, key=lambda one: one[0])
            for place, score in shown:
                self._deviations[place].append(score - middle)

    def _compare(self, where: str, overall: float, mean: float, prompt: str) -> None:
        self._points.append((overall, mean))
        self._tens += overall == 10
        if overall == 10 and mean < LOW_MEAN:
            self._many_low += 1
            if len(self._low) < EXAMPLES:
                self._low.append(Example(where, f"10 over all, {mean:g} on average: {excerpt(prompt)}"))

    def findings(self) -> list[Finding]:
        """Three."""
        return [self._critique(), self._tens_low(), self._places()]

    def _critique(self) -> Finding:
        name, unit = "critique_and_score", "answers with an overall score and aspects"
        ranks, line = spearman(self._points), pearson(self._points)
        if not self._points:
            return unknown(name, unit, "Not recorded: no rated answers with both; give `--ratings FILE`.")
        if ranks is None or line is None or ranks.n < ENOUGH:
            return unknown(name, unit, f"Not measured: fewer than {ENOUGH} answers have both, or all have the same.")
        level: Level = "problem" if ranks.high < AGREES else "clear"
        says = (
            f"Overall score and mean of the aspects: rank correlation {ranks.value:.2f}, 95% interval {ranks.low:.2f} to {ranks.high:.2f}."
        )
        advice = "The two say different things; read some of both, and choose one to make pairs by." if level == "problem" else ""
        numbers = {"spearman": ranks.value, "ci95": [ranks.low, ranks.high], "pearson": line.value}
        return Finding(name, level, 0, ranks.n, unit, says, advice, numbers=numbers, measure=True)

    def _tens_low(self) -> Finding:
        name, unit = "tens_with_low_aspects", "overall scores of 10 with aspects"
        if not self._points:
            return unknown(name, unit, "Not recorded: no rated answers with an overall score and aspects.")
        level: Level = "problem" if self._many_low else "clear"
        says = f"10 of 10 over all, and less than {LOW_MEAN:g} of 5 on average over the aspects: a 1 that was read as a 10?"
        advice = "Ask for these again, or leave them out; the first release of UltraFeedback had thousands, from a test `score > 1`."
        ones = sum(overall == 1 for overall, _ in self._points)
        return Finding(name, level, self._many_low, self._tens, unit, says, advice, tuple(self._low), {"ones": ones})

    def _places(self) -> Finding:
        name, unit = "judge_position", "prompts whose answers have the place at which they were shown"
        places = {place: values for place, values in sorted(self._deviations.items()) if len(values) >= ENOUGH}
        if not self._deviations:
            return unknown(name, unit, "Not recorded: no rated answers with a `position`.")
        if not places:
            return unknown(name, unit, f"Not judged: fewer than {ENOUGH} prompts.")
        means = {place: _mean_error(values) for place, values in places.items()}
        found = [place for place, (mean, error) in means.items() if abs(mean) >= SHIFT and _tails(mean, error) * len(means) < ALPHA]
        fixed = self._in_order >= FIXED * self._shown
        level: Level = "clear" if not found else "note" if fixed else "problem"
        says = "The place at which an answer was shown makes no difference to its score beyond chance."
        advice = ""
        if found:
            says = f"Answers score {means[found[0]][0]:+.2f} against the others of their prompt where they were shown at place {found[0]}."
            advice = "Show each prompt's answers in a new order, or in two orders, or one by one, and rate them again."
        if fixed:
            says += " They were always shown in the order of the row, so that the judge cannot be told from the models."
        table = Table(
            ("shown at place", "answers", "score against the prompt's mean", "standard error"),
            tuple((str(place), f"{len(places[place]):,}", f"{mean:+.3f}", f"{error:.3f}") for place, (mean, error) in means.items()),
        )
        numbers = {"shift": {str(place): mean for place, (mean, _) in means.items()}, "in_row_order": self._in_order}
        return Finding(name, level, len(found), self._shown, unit, says, advice, numbers=numbers, table=table, measure=True)


def _score(answer: Answer) -> float | None:
    return answer.mean if answer.mean is not None else answer.overall


def _mean_error(values: Sequence[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5


def _tails(mean: float, error: float) -> float:
    return normal_tails(mean / error) if error else 0.0
