"""How much there is to train on: rows counted, lengths in tokens of a sample of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.artifacts import Manifest
from zephyr.errors import ZephyrError
from zephyr.recipe import DataSource, DPOConfig, Recipe, SFTConfig
from zephyr.records import parse_dialogue

if TYPE_CHECKING:
    from zephyr.text.chat import ChatFormat

SAMPLE = 500  # rows of a source whose lengths are taken; enough for a mean, the rest is counted
MIXED = 2000  # lengths of all sources together, of each in proportion to its rows
STATED_ANSWERS = 0.75  # of the tokens of a dialogue whose texts are not at hand, what the assistant says
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
        fits: the share of the rows that the stage does not drop for their length; the others are not counted.
        answers: that a prompt has before two are chosen.
        written: whether the texts are there; where they are not, lengths are assumed, or there are none.
        named: of the test rows, those of sources that name themselves `test`.
    """

    train: int
    test: int
    lengths: tuple[Length, ...]
    assumed: str = ""
    fits: float = 1.0
    answers: int = 2
    written: bool = True
    named: int = 0

    @property
    def mean(self) -> float:
        """Tokens of a row."""
        return sum(x.tokens for x in self.lengths) / len(self.lengths) if self.lengths else 0.0

    @property
    def all_answers(self) -> float:
        """Tokens of a prompt and of all of its answers, the prompt once."""
        chosen = sum(n for x in self.lengths for n in x.branches) / max(1, sum(len(x.branches) for x in self.lengths))
        return (sum(x.first for x in self.lengths) / len(self.lengths) if self.lengths else 0.0) + self.answers * chosen

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


def made_in(run_dir: Path) -> dict[str, Path]:
    """The artifacts of a run that rows are taken from and that are there, by their stages; whether they are up to date is not asked."""
    return {stage: run_dir / stage for stage in ("synthesize", "curate", "rate", "binarize") if Manifest.read(run_dir / stage) is not None}


def dialogues(recipe: Recipe, made: Mapping[str, Path], chat: ChatFormat | None) -> Volume:
    """What dSFT will learn from; nothing where the recipe has no dialogues."""
    if recipe.curate is None:
        return Volume(0, 0, ())
    from zephyr.train import encode

    config = recipe.sft or SFTConfig()

    def length(row: Mapping[str, Any]) -> Length | None:
        assert chat is not None
        (encoded,) = encode.dialogues([parse_dialogue(row)], chat, config)  # as `sft.truncation` says
        return None if isinstance(encoded, str) else Length(len(encoded.tokens.ids), learnt=sum(encoded.tokens.learnt))

    def stated(tokens: float) -> Length:
        whole = min(config.max_length, round(tokens))
        return Length(whole, learnt=whole - 1 if config.loss_on == "all" else round(STATED_ANSWERS * whole))

    if curated := _sources(made, "curate"):
        return _volume(curated, 0.0, length if chat else None, stated)
    data = recipe.curate.data or _sources(made, "synthesize")
    if not data:
        return Volume(0, 0, (), "the dialogues are not written yet", written=False)
    found = _volume(data, recipe.curate.test_fraction, length if chat else None, stated)
    drawn = found.train + found.test - found.named  # named test rows stay, and are not counted (curation/select.py)
    share = min(1.0, recipe.curate.select.target / max(1, drawn)) if recipe.curate.select else 1.0
    return replace(found, train=round(share * found.train), test=found.named + round(share * (found.test - found.named)))


def pairs(recipe: Recipe, made: Mapping[str, Path], chat: ChatFormat | None) -> Volume:
    """What dDPO will learn from; where the answers are not written yet, prompts with answers of an assumed length.

    Nothing where the recipe has neither pairs nor answers.
    """
    of = _Pairs(chat, recipe.dpo or DPOConfig())
    length = of.length if chat else None
    rated = _sources(made, "rate") or (recipe.rate.data if recipe.rate else [])
    data = _sources(made, "binarize") or (recipe.binarize.data if recipe.binarize else []) or rated
    if data:
        divides = recipe.binarize if recipe.binarize and recipe.binarize.data else recipe.rate  # an artifact is divided already
        found = _volume(data, divides.test_fraction if divides else 0.0, length, of.stated)
        # of pairs the answers that were rated are not seen any more
        return replace(found, answers=recipe.complete.models_per_prompt if recipe.complete else _answers(rated or data))
    if recipe.complete is None:
        return Volume(0, 0, ())
    answers = recipe.complete.models_per_prompt
    asked = _volume(recipe.complete.prompts, recipe.complete.test_fraction, None, lambda _: Length(0))
    if recorded := next((t.recordings() for t in recipe.complete.pool.values() if t.kind == "replay"), []):
        seen = _volume(recorded, 0.0, length, of.stated)
        return replace(seen, train=round(asked.train * seen.fits), test=round(asked.test * seen.fits), answers=answers)
    longest = max((t.max_new_tokens for t in recipe.complete.pool.values() if t.kind != "replay"), default=1024)
    answer = min(longest // 2, of.config.max_length // 2)
    return Volume(
        asked.train,
        asked.test,
        (Length(min(answer // 2, of.config.max_prompt_length), (answer, answer)),),
        f"the answers are not written yet: each is taken to have {answer} tokens, and each prompt as many as half of it",
        answers=answers,
        written=False,
    )


class _Pairs:
    """Lengths of pairs and of rated answers, as the settings of dDPO cut them."""

    def __init__(self, chat: ChatFormat | None, config: DPOConfig) -> None:
        self._chat, self.config = chat, config

    def length(self, row: Mapping[str, Any]) -> Length | None:
        """Of a pair, or of the first two answers of a rated row; None of what does not fit."""
        if "chosen" not in row:
            return self._of([{"role": "user", "content": row["prompt"]}], [c["response"] for c in row["completions"]][:2])
        texts = [x if isinstance(x, str) else x[-1]["content"] for x in (row["chosen"], row["rejected"])]
        return self._of([{"role": "user", "content": row["prompt"]}] if isinstance(row["chosen"], str) else row["chosen"][:-1], texts)

    def stated(self, tokens: float) -> Length:
        """Of so many tokens in all."""
        prompt, answer = round(STATED_PROMPT * tokens), round((1 - STATED_PROMPT) / 2 * tokens)
        config = self.config
        return self._fitted(prompt, [answer, answer]) or Length(min(prompt, config.max_prompt_length), (config.max_length // 2,) * 2)

    def _of(self, context: Sequence[Mapping[str, str]], answers: Sequence[str]) -> Length | None:
        assert self._chat is not None
        parts = [self._chat.encode_pair([*context, {"role": "assistant", "content": text}]) for text in answers]  # type: ignore[list-item]
        return self._fitted(len(parts[0][0]), [len(answer) for _, answer in parts])

    def _fitted(self, prompt: int, answers: Sequence[int]) -> Length | None:
        """As `dpo.truncation` says: what is too long is cut, or the pair is dropped."""
        config = self.config
        if config.truncation == "drop" and prompt > config.max_prompt_length:
            return None
        prompt = min(prompt, config.max_prompt_length)
        room = config.max_length - prompt
        if config.truncation == "answer_right":
            return Length(prompt, tuple(min(n, room) for n in answers))
        return Length(prompt, tuple(answers)) if max(answers) <= room else None


def _answers(data: Sequence[DataSource]) -> int:
    """How many answers a prompt has, by the first row that can be read; two where rows are pairs, or not at hand."""
    here = (source for source in data if not _away(source))
    readable = (row for source in here for _, _, row in sources.located(source) if isinstance(row, dict))
    given = next(readable, {}).get("completions")
    return len(given) if isinstance(given, list) else 2


def _away(source: DataSource) -> bool:
    """Whether it is not at hand, but the recipe says how much it is."""
    return source.rows is not None and source.tokens is not None and sources.resolve(source.path) is None


def _sources(made: Mapping[str, Path], stage: str) -> list[DataSource]:
    return [DataSource(path=str(made[stage]))] if stage in made else []


def _volume(
    data: Sequence[DataSource],
    test_fraction: float,
    length: Callable[[Mapping[str, Any]], Length | None] | None,
    stated: Callable[[float], Length],
) -> Volume:
    rows = {"train": 0.0, "test": 0.0}
    named = 0.0
    parts: list[tuple[float, list[Length]]] = []  # of each source: rows to learn from, and lengths of some
    assumed = []
    whole = 0.0
    for source in data:
        if _away(source):
            assert source.rows is not None and source.tokens is not None
            tested = float(source.split == "test") if source.split else test_fraction
            whole += source.rows * ((1 - tested) * source.weight + tested)
            rows["test"] += tested * source.rows
            named += source.rows * (source.split == "test")
            rows["train"] += (1 - tested) * source.weight * source.rows
            parts.append((source.rows * ((1 - tested) * source.weight + tested), [stated(source.tokens / source.rows)]))
            assumed.append(f"{source.path} ({source.source_split or source.split or 'all'}): {source.rows:,} rows, as the recipe says")
            continue
        taken = 0
        here = {"train": 0.0, "test": 0.0}
        lengths: list[Length] = []
        for part, split in sources.divided(source):
            tested, rows_there = float(split == "test") if split else test_fraction, part.count()
            here["test"] += tested * rows_there
            named += rows_there * (split == "test")
            here["train"] += (1 - tested) * source.weight * rows_there
        for _, _, row in itertools.islice(sources.located(source), SAMPLE if length else 0):
            assert length is not None
            taken += 1
            try:
                found = length(row)  # type: ignore[arg-type]  # one that cannot be read is no mapping: a TypeError
            except (ZephyrError, LookupError, TypeError, AttributeError):
                continue  # a row that is wrong is the stage's to refuse, not the plan's
            if found is not None and found.tokens:
                lengths.append(found)
        used = len(lengths) / taken if taken else 1.0  # what does not fit is dropped by the stage
        whole += sum(here.values())
        rows = {split: n + used * here[split] for split, n in rows.items()}
        parts.append((used * (here["train"] + here["test"]), lengths))
    fits = sum(rows.values()) / whole if whole else 1.0
    return Volume(round(rows["train"]), round(rows["test"]), _mixed(parts), "; ".join(assumed), fits, named=round(named))


def _mixed(parts: Sequence[tuple[float, Sequence[Length]]]) -> tuple[Length, ...]:
    """Lengths of all sources, of each as many as its share of the rows."""
    known = [(rows, lengths) for rows, lengths in parts if rows and lengths]
    if len(known) == 1 or all(abs(rows - len(lengths)) < 0.5 for rows, lengths in known):  # all there is
        return tuple(length for _, lengths in known for length in lengths)
    total = sum(rows for rows, _ in known)
    return tuple(lengths[i % len(lengths)] for rows, lengths in known for i in range(max(1, round(MIXED * rows / total))))
