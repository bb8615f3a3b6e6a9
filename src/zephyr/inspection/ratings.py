"""What there is to look at in rated answers: models and scores. An answer is looked at by itself, beside its prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zephyr.audit.rows import Answer, read_row
from zephyr.errors import DataError
from zephyr.inspection import cards
from zephyr.inspection.cards import Block, Card
from zephyr.inspection.specimens import Kind, Specimen, said
from zephyr.records import ASPECTS, Row, parse_rating

BY_MODEL, BY_SCORE = "By model", "By score"
NOT_RATED = "not rated"
_OVERALL = (*(f"overall score {low} to under {low + 2}" for low in (1, 3, 5, 7)), "overall score 9 to 10")
_NO_OVERALL = "overall score that is no number from 1 to 10"
_MEAN = (*(f"mean of aspects {low} to under {low + 1}" for low in (1, 2, 3)), "mean of aspects 4 to 5")
_NO_MEAN = "mean of aspects outside 1 to 5"
_ORDER = (*_OVERALL, _NO_OVERALL, *_MEAN, _NO_MEAN, NOT_RATED)


def read(where: str, split: str | None, row: Row) -> Iterator[Specimen]:
    """The answers in a row.

    Raises:
        DataError: they are not what their column says.
    """
    _, rated = read_row({name: row[name] for name in ("prompt", "instruction", "completions") if name in row})
    assert rated is not None, "without `completions`, it is no row of this kind"
    for i, (answer, item) in enumerate(zip(rated.answers, row["completions"], strict=True)):
        yield _specimen(f"{where} answer {i + 1}", split, row, rated.prompt, answer, item, first=i == 0, of=len(rated.answers))


def _specimen(
    where: str, split: str | None, row: Row, prompt: str, answer: Answer, item: Mapping[str, Any], *, first: bool, of: int
) -> Specimen:
    aspects = _aspects(item)
    model = answer.model or "model not named"
    names: list[tuple[str, str, float | None]] = [("model", model, answer.overall if answer.overall is not None else answer.mean)]
    names += [(name, text, None) for name, text in (*said(row, "source", "category"), *said(item, "principle"))]
    names += [("split", split, None)] if split else []
    numbers: list[tuple[str, float]] = [("words", len(answer.text.split())), *aspects.items()]
    numbers += [("overall score", answer.overall)] if answer.overall is not None else []
    numbers += [("mean of aspects", answer.mean)] if answer.mean is not None else []
    numbers += [("answers to a prompt", of)] if first else []
    return Specimen(
        where=where,
        texts=(prompt, model, answer.text),
        labels={BY_MODEL: (cards.line(model, 80),), BY_SCORE: (_score(answer, item),)},
        numbers=tuple(numbers),
        names=tuple(names),
        card=lambda identity: _card(identity, where, row, prompt, answer, item, aspects),
    )


def _aspects(item: Mapping[str, Any]) -> dict[str, int]:
    try:
        return dict(parse_rating(item, complete=False).aspects)
    except DataError:
        return {}


def _score(answer: Answer, item: Mapping[str, Any]) -> str:
    """Between which scores an answer is; a score that is there and is none is not passed over for the aspects."""
    if answer.overall is not None and 1 <= answer.overall <= 10:
        return _OVERALL[min(int(answer.overall - 1) // 2, 4)]
    if item.get("overall_score") is not None:
        return _NO_OVERALL
    if answer.mean is not None:
        return _MEAN[min(int(answer.mean) - 1, 3)] if 1 <= answer.mean <= 5 else _NO_MEAN
    return NOT_RATED


def _card(identity: str, where: str, row: Row, prompt: str, answer: Answer, item: Mapping[str, Any], aspects: Mapping[str, int]) -> Card:
    given = row.get("prompt_id")
    tags = [cards.line(answer.model or "model not named", 60)]
    tags += [f"overall {answer.overall:g}"] if answer.overall is not None else []
    tags += [f"{name.replace('_', ' ')} {aspects[name]}" for name in ASPECTS if name in aspects]
    blocks = [Block("prompt", cards.shown(prompt), "user"), Block("answer", cards.shown(answer.text), "assistant")]
    blocks += [Block("critique", cards.shown(text)) for _, text in said(item, "critique")]
    return Card(cards.visible(where), cards.line(given, 64) if isinstance(given, str) and given else identity, tuple(tags), tuple(blocks))


RATINGS = Kind(
    name="ratings",
    one="answer",
    unit="answers",
    columns="`completions`",
    groupings={BY_SCORE: 1, BY_MODEL: 1},
    order={BY_SCORE: _ORDER},
    numbers={
        "overall score": ("answers, by their overall score", "even"),
        "mean of aspects": ("answers, by the mean of their aspects", "even"),
        **dict.fromkeys(ASPECTS, ("answers, by this aspect", "even")),
        "answers to a prompt": ("prompts, by how many answers they have", "even"),
        "words": ("answers, by their words", "doubling"),
    },
    names=dict.fromkeys(("model", "split", "source", "category", "principle"), "answers"),
    read=read,
)
