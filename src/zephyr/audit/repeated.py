"""What is there twice: prompts, pairs, pairs the other way round, prompts in train and test."""

from __future__ import annotations

from collections import Counter, defaultdict

from zephyr.audit.checks import Found, Item
from zephyr.audit.findings import EXAMPLES, Example, Finding, Level, excerpt, unknown


class Repeated:
    """Prompts and pairs that are there more than once, pairs that say the opposite of one another, prompts in train and test."""

    def __init__(self) -> None:
        self._prompts: dict[tuple[str, bool, int], str] = {}
        self._pairs: dict[tuple[str, int, int, int], str] = {}
        self._splits: dict[str, dict[int, str]] = defaultdict(dict)
        self._rows: Counter[str] = Counter()
        self._train: list[tuple[int, str, str]] = []
        self._items = self._with_pair = 0
        self._same_prompt, self._same_pair, self._against = Found(), Found(), Found()

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

    def _of_pairs(self, found: Found, name: str, says: str, advice: str) -> Finding:
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
