"""How much there is to train on: rows counted, lengths in tokens of a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.artifacts import Manifest
from zephyr.errors import ZephyrError
from zephyr.recipe import DataSource, Recipe

if TYPE_CHECKING:
    from zephyr.text.chat import ChatFormat

SAMPLE = 500  # rows whose lengths are taken; enough for a mean, the rest is counted
STATED_PROMPT = 0.2  # of the tokens of a pair whose texts are not at hand; about so in UltraFeedback


@dataclass(frozen=True)
class Length:
    """Of one row in tokens: what comes first, and its continuations (a dialogue has none: `learnt` of its tokens are predicted)."""

    first: int
    branches: tuple[int, ...] = ()
    learnt: int = 0

    @property
    def tokens(self) -> int:
        """That go through the model."""
        return self.first + sum(self.branches)

    @property
    def predicted(self) -> int:
        """Tokens that meet the output matrix."""
        return sum(self.branches) if self.branches else self.learnt


@dataclass(frozen=True)
class Volume:
    """Rows of each split, and the lengths of some.

    Args:
        train: rows to train on.
        test: rows that are looked at.
        lengths: of a sample of both.
        assumed: what was taken for granted, where the rows could not be read; empty where they were.
    """

    train: int
    test: int
    lengths: tuple[Length, ...]
    assumed: str = ""

    @property
    def mean(self) -> float:
        """Tokens of a row."""
        return sum(x.tokens for x in self.lengths) / len(self.lengths) if self.lengths else 0.0

    @property
    def predicted(self) -> float:
        """Of a row's tokens, the share that is predicted."""
        return sum(x.predicted for x in self.lengths) / max(1, sum(x.tokens for x in self.lengths))

    @property
    def seen(self) -> float:
        """How many tokens one sees on average: half of its own sequence."""
        total = sum(x.tokens for x in self.lengths)
        if not total:
            return 0.0
        pairs = sum(x.first**2 / 2 + sum(n * x.first + n * n / 2 for n in x.branches) for x in self.lengths)
        return pairs / total


def dialogues(recipe: Recipe, run_dir: Path, chat: ChatFormat | None) -> Volume:
    """What dSFT will learn from."""
    assert recipe.curate is not None and recipe.sft is not None
    limit = recipe.sft.max_length

    def length(row: Mapping[str, Any]) -> Length:
        assert chat is not None
        encoded = chat.encode(row["messages"])
        return Length(min(limit, len(encoded.ids)), learnt=min(limit, sum(encoded.learnt)))

    def stated(tokens: float) -> Length:
        return Length(min(limit, round(tokens)), learnt=round(0.75 * min(limit, tokens)))

    data = _made(run_dir / "curate") or recipe.curate.data
    return _volume(data, recipe.curate.test_fraction, length if chat else None, stated)


def pairs(recipe: Recipe, run_dir: Path, chat: ChatFormat | None) -> Volume:
    """What dDPO will learn from; where the answers are not written yet, prompts with answers of an assumed length."""
    assert recipe.dpo is not None and recipe.binarize is not None
    dpo = recipe.dpo

    def fitted(prompt: int, answers: Sequence[int]) -> Length | None:
        prompt = min(prompt, dpo.max_prompt_length)
        return None if prompt + max(answers) > dpo.max_length else Length(prompt, tuple(answers))

    def of(context: Sequence[Mapping[str, str]], answers: Sequence[str]) -> Length | None:
        assert chat is not None
        parts = [chat.encode_pair([*context, {"role": "assistant", "content": text}]) for text in answers]  # type: ignore[list-item]
        return fitted(len(parts[0][0]), [len(answer) for _, answer in parts])

    def length(row: Mapping[str, Any]) -> Length | None:
        if "chosen" in row:
            texts = [x if isinstance(x, str) else x[-1]["content"] for x in (row["chosen"], row["rejected"])]
            context = [{"role": "user", "content": row["prompt"]}] if isinstance(row["chosen"], str) else row["chosen"][:-1]
            return of(context, texts)
        return of([{"role": "user", "content": row["prompt"]}], [c["response"] for c in row["completions"]][:2])

    def stated(tokens: float) -> Length:
        prompt, answer = round(STATED_PROMPT * tokens), round((1 - STATED_PROMPT) / 2 * tokens)
        return fitted(prompt, [answer, answer]) or Length(min(prompt, dpo.max_prompt_length), (dpo.max_length // 2,) * 2)

    rated = _made(run_dir / "rate") or (recipe.rate.data if recipe.rate else [])
    data = _made(run_dir / "binarize") or recipe.binarize.data or rated
    if data:
        return _volume(data, recipe.binarize.test_fraction, length if chat else None, stated)
    assert recipe.complete is not None
    if recorded := next((t.recordings() for t in recipe.complete.pool.values() if t.kind == "replay"), []):
        seen = _volume(recorded, 0.0, length if chat else None, stated)
        asked = _volume(recipe.complete.prompts, recipe.complete.test_fraction, None, lambda _: Length(0))
        return Volume(asked.train, asked.test, seen.lengths, seen.assumed)
    longest = max((t.max_new_tokens for t in recipe.complete.pool.values() if t.kind != "replay"), default=1024)
    found = _volume(recipe.complete.prompts, recipe.complete.test_fraction, None, lambda _: Length(0))
    answer = min(longest // 2, dpo.max_length // 2)
    assumed = f"the answers are not written yet: each is taken to have {answer} tokens, and each prompt as many as half of it"
    return Volume(found.train, found.test, (Length(min(answer // 2, dpo.max_prompt_length), (answer, answer)),), assumed)


def _made(folder: Path) -> list[DataSource]:
    """What a stage has made already, where it has."""
    return [DataSource(path=str(folder))] if Manifest.read(folder) is not None else []


def _volume(
    data: Sequence[DataSource],
    test_fraction: float,
    length: Callable[[Mapping[str, Any]], Length | None] | None,
    stated: Callable[[float], Length],
) -> Volume:
    rows = {"train": 0.0, "test": 0.0}
    lengths: list[Length] = []
    assumed = []
    for source in data:
        if source.rows is not None and source.tokens is not None and sources.resolve(source.path) is None:
            tested = float(source.split == "test") if source.split else test_fraction
            rows["test"] += tested * source.rows
            rows["train"] += (1 - tested) * source.weight * source.rows
            lengths.append(stated(source.tokens / source.rows))
            assumed.append(f"{source.path} ({source.source_split or source.split or 'all'}): {source.rows:,} rows, as the recipe says")
            continue
        taken = 0
        for _, split, row in sources.rows(source):
            tested = float(split == "test") if split else test_fraction
            rows["test"] += tested
            rows["train"] += (1 - tested) * source.weight
            if taken < SAMPLE and length is not None:
                taken += 1
                try:
                    found = length(row)
                except (ZephyrError, LookupError, TypeError, AttributeError):
                    continue  # a row that is wrong is the stage's to refuse, not the plan's
                if found is not None and found.tokens:
                    lengths.append(found)
    return Volume(round(rows["train"]), round(rows["test"]), tuple(lengths), "; ".join(assumed))
