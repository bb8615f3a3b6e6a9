"""What can be seen in the pairs and prompts themselves: scores, texts, repetitions, lengths, benchmarks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from zephyr.audit.findings import EXAMPLES, Example, Finding, Level, Table, excerpt, unknown
from zephyr.audit.measures import pearson, spearman
from zephyr.audit.rows import Pair, Rated, exact_key, key_of
from zephyr.evals.statistics import share
from zephyr.text.contamination import KINDS, Benchmarks


@dataclass(frozen=True)
class Item:
    """A row that was read: where it stood, in which split, and what it holds."""

    where: str
    split: str
    pair: Pair | None
    rated: Rated | None

    @property
    def asked(self) -> tuple[str, ...]:
        """What the user says, turn by turn."""
        return self.pair.asked if self.pair else (self.rated.prompt,) if self.rated else ()

    @cached_property
    def prompt_key(self) -> int:
        """Stands for the words of the prompt."""
        return key_of(self.asked[0])

    @cached_property
    def context_key(self) -> int:
        """Stands for the words of all that comes before the answer."""
        return key_of(self.pair.context if self.pair else self.asked[0])

    @cached_property
    def answer_keys(self) -> tuple[int, int]:
        """Stand for the chosen and the rejected answer, to the letter."""
        assert self.pair is not None
        return exact_key(self.pair.chosen), exact_key(self.pair.rejected)


class Check(Protocol):
    """Something that is looked for, row by row, without keeping their texts."""

    def see(self, item: Item) -> None:
        """Take a row into account."""

    def findings(self) -> list[Finding]:
        """What came of it."""


# --- one pair at a time ------------------------------------------------------------------------------------------


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
        self._rule, self._of, self._found = rule, 0, _Found()

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


class _Found:
    """A count, and the first of what is counted."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[Example] = []

    def add(self, item: Item, what: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(Example(item.where, f"{what}: {excerpt(item.asked[0])}"))

    def finding(self, name: str, of: int, unit: str, says: str, advice: str, table: Table | None = None) -> Finding:
        level: Level = "problem" if self.count else "clear"
        return Finding(name, level, self.count, of, unit, says, advice, tuple(self.examples), table=table)


# --- what is there twice -------------------------------------------------------------------------------------------


class Repeated:
    """Prompts and pairs that are there more than once, pairs that say the opposite of one another, prompts in train and test."""

    def __init__(self) -> None:
        self._prompts: dict[tuple[str, bool, int], str] = {}
        self._pairs: dict[tuple[str, int, int, int], str] = {}
        self._splits: dict[str, dict[int, str]] = defaultdict(dict)
        self._rows: Counter[str] = Counter()
        self._train: list[tuple[int, str, str]] = []
        self._items = self._with_pair = 0
        self._same_prompt, self._same_pair, self._against = _Found(), _Found(), _Found()

    def see(self, item: Item) -> None:
        """Take a row into account."""
        self._items += 1
        self._rows[item.split] += 1
        # what a prompt is repeated in: its split, for one in both splits is counted there; rated answers are no second pair
        first = self._prompts.setdefault((item.split, item.pair is None, item.context_key), item.where)
        if first != item.where:
            self._same_prompt.add(item, f"as {first}")
        self._splits[item.split].setdefault(item.prompt_key, item.where)
        if item.split != "test":
            self._train.append((item.prompt_key, item.where, excerpt(item.asked[0])))
        if item.pair is not None:
            self._see_pair(item)

    def _see_pair(self, item: Item) -> None:
        self._with_pair += 1
        chosen, rejected = item.answer_keys
        first = self._pairs.setdefault((item.split, item.context_key, chosen, rejected), item.where)
        if first != item.where:
            self._same_pair.add(item, f"as {first}")
        opposite = [where for split in self._rows if (where := self._pairs.get((split, item.context_key, rejected, chosen)))]
        if opposite and chosen != rejected:
            self._against.add(item, f"the opposite of {opposite[0]}")

    def findings(self) -> list[Finding]:
        """Four."""
        return [
            self._same_prompt.finding(
                "duplicate_prompts",
                self._items,
                "rows",
                "The prompt, with all that stands before the answer, was in an earlier row of the same split; capitals and spaces aside.",
                "If several pairs of a prompt are meant, say `--ignore duplicate_prompts`, and keep a prompt's pairs in one split.",
            ),
            self._of_pairs(
                self._same_pair,
                "duplicate_pairs",
                "The same prompt with the same two answers was in an earlier row of the same split.",
                "Keep one of each.",
            ),
            self._of_pairs(
                self._against,
                "contradictory",
                "Another row prefers the opposite: one says A over B, the other B over A, for the same prompt.",
                "Leave both out, or keep the one whose score you trust.",
            ),
            self._overlap(),
        ]

    def _of_pairs(self, found: _Found, name: str, says: str, advice: str) -> Finding:
        if not self._with_pair:
            return unknown(name, "pairs", "Not recorded: no row has a pair.")
        return found.finding(name, self._with_pair, "pairs", says, advice)

    def _overlap(self) -> Finding:
        name, unit = "train_test_overlap", "train rows"
        advice = "Take the prompts out of train: a test that loses rows is another test."
        if not self._rows["test"] or not self._train:
            only = "test" if self._rows["test"] else "train"
            return unknown(name, unit, f"Not looked for: all rows are {only} rows. Name others with `--test`.", advice)
        test = self._splits["test"]
        both = [(where, test[key], text) for key, where, text in self._train if key in test]
        examples = tuple(Example(where, f"as {twin}: {text}") for where, twin, text in both[:EXAMPLES])
        says = "The prompt is in the test rows, too; what is measured on it says nothing of prompts that were not learnt."
        level: Level = "problem" if both else "clear"
        prompts = len({key for key, _, _ in self._train if key in test})
        return Finding(name, level, len(both), len(self._train), unit, says, advice, examples, {"prompts": prompts})


# --- lengths -------------------------------------------------------------------------------------------------------


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


# --- benchmarks ----------------------------------------------------------------------------------------------------


class Contamination:
    """Prompts that are prompts of a benchmark."""

    def __init__(self, benchmarks: Benchmarks | None) -> None:
        self._benchmarks = benchmarks
        self._kinds: dict[str, Counter[str]] = defaultdict(Counter)
        self._rows, self._found = 0, _Found()

    def see(self, item: Item) -> None:
        """Compare what the user says."""
        self._rows += 1
        if self._benchmarks is None:
            return
        hits = [hit for text in item.asked for hit in self._benchmarks.find_all(text)]
        for name in {hit.benchmark for hit in hits}:
            self._kinds[name][min((hit.kind for hit in hits if hit.benchmark == name), key=KINDS.index)] += 1
        if hits:
            best = min(hits, key=lambda hit: KINDS.index(hit.kind))
            self._found.add(item, f"{best.benchmark}, {best.kind}" + (f" ({best.overlap:.0%})" if best.kind == "ngram" else ""))

    def findings(self) -> list[Finding]:
        """One."""
        name, unit = "in_benchmarks", "rows"
        if self._benchmarks is None:
            return [unknown(name, unit, "Not looked for: no benchmark was named; give `--against FILE`.")]
        table = _table(self._benchmarks.counts, self._kinds)
        says = "What the user says is a prompt of a benchmark: a model that learns from it is not measured by that benchmark any more."
        advice = "Leave these rows out before training, or do not report the benchmark."
        return [self._found.finding(name, self._rows, unit, says, advice, table)]


def _table(sizes: Mapping[str, int], kinds: Mapping[str, Counter[str]]) -> Table:
    rows = [(name, f"{size:,}", *(f"{kinds[name][kind]:,}" if name in kinds else "0" for kind in KINDS)) for name, size in sizes.items()]
    return Table(("benchmark", "its prompts", *KINDS), tuple(rows))
