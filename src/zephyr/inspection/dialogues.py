"""What there is to look at in dialogues: topic or source, turns, length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zephyr.curation import shapes
from zephyr.curation.select import EXCHANGES
from zephyr.errors import DataError
from zephyr.inspection import cards
from zephyr.inspection.cards import Card, Messages
from zephyr.inspection.specimens import Kind, Specimen, band, said
from zephyr.records import Row

CHARS = (512, 2_048, 8_192, 32_768)  # where a stratum begins; every other bound of those that curation selects by
GROUPING = "By topic, turns and length"


def messages_of(row: Row) -> Messages:
    """Role and text of each turn, in any shape in which dialogues are published; unlike the parser's, they may be in any order.

    Raises:
        DataError: the row is none of these shapes.
    """
    turns = shapes.as_messages(row, shapes.shape_of(row)).get("messages")
    if not isinstance(turns, list | tuple) or not turns:
        raise DataError("there is no list of turns" if turns else "there are no turns")
    found = []
    for i, turn in enumerate(turns):
        role, text = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(text, str):
            raise DataError(f"`messages[{i}]` is not an object with a text as its `role` and one as its `content`")
        found.append((role, text))
    return found


def read(where: str, split: str | None, row: Row) -> Iterator[Specimen]:
    """A row's dialogue."""
    messages = messages_of(row)
    chars = sum(len(text) for _, text in messages)
    answers = [text for role, text in messages if role == "assistant"]
    spoken = [text for role, text in messages if role != "system"]
    exchanges = band(len(spoken) // 2, EXCHANGES) if len(spoken) > 1 else "no"  # a turn without its other half is none
    shape = f"{exchanges} {'exchange' if exchanges == '1' else 'exchanges'}, {band(chars, CHARS)} characters"
    about = dict(said(row, "category", "source", "model", "language", "lang"))
    topic = about.get("category") or about.get("source")
    names = [("split", split)] if split else []
    names += [("language" if name == "lang" else name, text) for name, text in about.items()]
    yield Specimen(
        where=where,
        texts=tuple(part for turn in messages for part in turn),
        labels={GROUPING: (f"{cards.line(topic, 60)}, {shape}" if topic else shape, shape)},
        numbers=(
            ("turns", len(spoken)),
            ("characters", chars),
            ("words of an answer", sum(len(text.split()) for text in answers) // max(1, len(answers))),
        ),
        names=tuple((name, value, None) for name, value in names),
        card=lambda identity: Card(
            where=cards.visible(where),
            id=cards.line(given, 64) if isinstance(given := row.get("prompt_id"), str) and given else identity,
            tags=tuple(cards.line(text, 40) for name, text in names),
            blocks=cards.turns(messages),
            note=f"{len(messages) - cards.TURNS} more turns are not shown." if len(messages) > cards.TURNS else "",
        ),
    )


DIALOGUES = Kind(
    name="dialogues",
    one="dialogue",
    unit="dialogues",
    columns="`messages`, or `conversations`, `data`, `instruction` and `output`",
    groupings={GROUPING: 2},
    order={},
    numbers={
        "turns": ("dialogues, by how many turns user and assistant have", "even"),
        "characters": ("dialogues, by the characters of all turns", "doubling"),
        "words of an answer": ("dialogues, by the words their answers have on average", "doubling"),
    },
    names=dict.fromkeys(("split", "source", "category", "language", "model"), "dialogues"),
    read=read,
)
