"""What there is to look at in pairs: by how much the chosen answer is ahead, and whose the two are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zephyr.audit.rows import Pair, read_row
from zephyr.inspection import cards, marks
from zephyr.inspection.cards import Block, Card, Messages
from zephyr.inspection.specimens import Kind, Specimen, said
from zephyr.records import Row

BY_MARGIN, BY_MODELS = "By margin", "By model"
REVERSED, TIE, SMALL, LARGE, UNSCORED, BAD = (
    "reversed: the rejected answer scores higher",
    "tie: both score the same",
    "small margin: up to 1",
    "large margin: over 1",
    "no scores",
    "a score that is no number",
)
UNNAMED = "models not named"


def read(where: str, split: str | None, row: Row) -> Iterator[Specimen]:
    """A row's pair.

    Raises:
        DataError: it is not what its columns say.
    """
    pair, _ = read_row({name: value for name, value in row.items() if name != "completions"})
    assert pair is not None, "without `chosen` and `rejected`, it is no row of this kind"
    names: list[tuple[str, str, float | None]] = [(name, text, None) for name, text in said(row, "source", "category")]
    names += [("split", split, None)] if split else []
    names += [("chosen model", pair.chosen_model, pair.score_chosen)] if pair.chosen_model else []
    names += [("rejected model", pair.rejected_model, pair.score_rejected)] if pair.rejected_model else []
    numbers: list[tuple[str, float]] = [("words of chosen", len(pair.chosen.split())), ("words of rejected", len(pair.rejected.split()))]
    numbers += [
        (name, score)
        for name, score in (("score of chosen", pair.score_chosen), ("score of rejected", pair.score_rejected))
        if score is not None
    ]
    numbers += [("margin", ahead)] if (ahead := _ahead(pair)) is not None else []
    yield Specimen(
        where=where,
        texts=(pair.context, pair.chosen, pair.rejected),
        labels={BY_MARGIN: (margin(pair),), BY_MODELS: _models(pair)},
        numbers=tuple(numbers),
        names=tuple(names),
        card=lambda identity: _card(identity, where, row, pair),
    )


def margin(pair: Pair) -> str:
    """By how much the chosen answer is ahead, in words."""
    if pair.bad_score:
        return BAD
    ahead = _ahead(pair)
    if ahead is None:
        return UNSCORED
    return REVERSED if ahead < 0 else TIE if ahead == 0 else SMALL if ahead <= 1 else LARGE


def _ahead(pair: Pair) -> float | None:
    """The score of chosen less that of rejected; to nine places, for of 8.3 and 7.3 floats make more than 1."""
    return None if pair.scores is None else round(pair.scores[0] - pair.scores[1], 9)


def _models(pair: Pair) -> tuple[str, str]:
    if not pair.chosen_model and not pair.rejected_model:
        return UNNAMED, UNNAMED
    chosen, rejected = (cards.line(model or "a model not named", 60) for model in (pair.chosen_model, pair.rejected_model))
    return f"{chosen} over {rejected}", f"{chosen} chosen"


_SEPARATORS = str.maketrans({"\x1e": "\u241e", "\x1f": "\u241f"})
_TEXTS = ("chosen", "rejected", "prompt", "instruction", "input", "question", "conversations")


def context_of(row: Row) -> Messages:
    """What stands before the answers, turn by turn.

    A pair has it as one text, in which two control characters stand between the turns. The row may have them in a text, too: there they
    become the signs that they are shown by.
    """
    pair, _ = read_row({name: _without_separators(row[name]) for name in _TEXTS if name in row})
    assert pair is not None, "without `chosen` and `rejected`, it is no row of this kind"
    return [(role, text) for role, _, text in (part.partition("\x1f") for part in pair.context.split("\x1e")) if text]


def _without_separators(value: object, levels: int = 2) -> object:
    """A text, or the texts in a list of turns."""
    if isinstance(value, str):
        return value.translate(_SEPARATORS)
    if isinstance(value, Mapping) and levels:
        return {name: _without_separators(part, levels - 1) for name, part in value.items()}
    return [_without_separators(part, levels - 1) for part in value] if isinstance(value, list | tuple) and levels else value


def _card(identity: str, where: str, row: Row, pair: Pair) -> Card:
    given = row.get("prompt_id")
    before = context_of(row)
    scores = [f"chosen {pair.score_chosen:g}"] if pair.score_chosen is not None else []
    scores += [f"rejected {pair.score_rejected:g}"] if pair.score_rejected is not None else []
    differ = ([], []) if pair.identical else marks.differing(pair.chosen, pair.rejected)
    sides = [
        Block(f"{tone}{f': {cards.line(model, 60)}' if model else ''}", cards.shown(text, spans, head=2 * cards.HEAD), tone)
        for tone, model, text, spans in (
            ("chosen", pair.chosen_model, pair.chosen, differ[0]),
            ("rejected", pair.rejected_model, pair.rejected, differ[1]),
        )
    ]
    note = (
        "Both answers are the same." if pair.identical else "The two answer different conversations; that of chosen is shown." * pair.apart
    )
    return Card(
        where=cards.visible(where),
        id=cards.line(given, 64) if isinstance(given, str) and given else identity,
        tags=(*scores, *(cards.line(text, 40) for _, text in said(row, "source", "category"))),
        blocks=cards.turns(before) if len(before) > 1 else tuple(Block("prompt", cards.shown(text), "user") for _, text in before),
        sides=tuple(sides),
        note=note or ("Words that are not in both are marked." if differ[0] or differ[1] else ""),
    )


PREFERENCES = Kind(
    name="preferences",
    one="pair",
    unit="pairs",
    columns="`chosen` and `rejected`",
    groupings={BY_MARGIN: 1, BY_MODELS: 2},
    order={BY_MARGIN: (REVERSED, TIE, SMALL, LARGE, UNSCORED, BAD)},
    numbers={
        "margin": ("pairs, by the score of chosen minus that of rejected", "even"),
        "score of chosen": ("pairs, by the score of the chosen answer", "even"),
        "score of rejected": ("pairs, by the score of the rejected answer", "even"),
        "words of chosen": ("pairs, by the words of the chosen answer", "doubling"),
        "words of rejected": ("pairs, by the words of the rejected answer", "doubling"),
    },
    names=dict.fromkeys(("chosen model", "rejected model", "split", "source", "category"), "pairs"),
    read=read,
)
