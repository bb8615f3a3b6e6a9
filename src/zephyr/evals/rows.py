"""What models are measured on: the rows of the test splits, the same for every model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zephyr import sources
from zephyr.artifacts import Draft, canonical
from zephyr.errors import DataError
from zephyr.evals.preference import Group
from zephyr.recipe import DataSource
from zephyr.records import (
    Dialogue,
    Message,
    Preference,
    RatedPrompt,
    Rating,
    parse_dialogue,
    parse_preference,
    parse_rated_prompt,
    seeded_unit,
)
from zephyr.text.chat import ChatFormat, describe
from zephyr.train.encode import TOO_LONG, shortened, unencodable


@dataclass(frozen=True)
class Rows:
    """Dialogues for the likelihood, prompts with scored answers for the preferences, and those of them to be answered."""

    dialogues: Sequence[Dialogue]
    groups: Sequence[Group]
    asked: Sequence[Group]


# --- reading ---------------------------------------------------------------------------------------------------


def dialogues_of(data: Sequence[DataSource], out: Draft) -> list[Dialogue]:
    """The dialogues of the test split; [] where there are no sources."""
    if not data:
        return []
    return [item.record for item in sources.collect(data, parse_dialogue, out, invalid="error", test_fraction=0.0)["test"]]


def groups_of(data: Sequence[DataSource], score: str, out: Draft) -> list[Group]:
    """Prompts of the test split with two or more scored answers, or with the two of a pair; [] where there are no sources."""
    if not data:
        return []
    found = sources.collect(data, _parse, out, invalid="error", test_fraction=0.0, identity=_identity)
    groups = [_of_pair(r) if isinstance(r := item.record, Preference) else _of_answers(r, score) for item in found["test"]]
    return [group for group in groups if len(group.answers) > 1]


def _parse(row: Mapping[str, Any]) -> RatedPrompt | Preference:
    return parse_preference(row) if "chosen" in row else parse_rated_prompt(row)


def _identity(record: RatedPrompt | Preference) -> object:
    return record.pair_id if isinstance(record, Preference) else record.prompt_id


def _of_pair(pair: Preference) -> Group:
    answers = ((pair.chosen[-1]["content"], 1.0), (pair.rejected[-1]["content"], 0.0))
    return Group(pair.prompt_id, pair.prompt, pair.category, pair.chosen[:-1], answers)


def _of_answers(prompt: RatedPrompt, score: str) -> Group:
    scored = ((c.response, _score(c.rating, score)) for c in prompt.completions if c.response.strip())
    answers = tuple((text, value) for text, value in scored if value is not None)
    return Group(prompt.prompt_id, prompt.prompt, prompt.category, ({"role": "user", "content": prompt.prompt},), answers)


def _score(rating: Rating | None, score: str) -> float | None:
    if rating is None:
        return None
    return rating.mean if score == "mean" else rating.overall_score


# --- what every model can read ---------------------------------------------------------------------------------


def readable(dialogues: Iterable[Dialogue], chats: Iterable[ChatFormat], max_length: int, out: Draft) -> list[Dialogue]:
    """Dialogues without the last exchanges that are too long in any of the formats; what cannot be kept is dropped."""
    formats, kept = _distinct(chats), []
    for d in dialogues:
        try:
            messages = shortened(d.messages, lambda turns: all(len(chat.encode(turns).ids) <= max_length for chat in formats))
        except DataError as error:
            out.drop(unencodable(error), f"prompt {d.prompt_id[:16]}", d.row())
            continue
        if messages is None:
            out.drop(TOO_LONG, f"prompt {d.prompt_id[:16]}", d.row())
            continue
        kept.append(replace(d, messages=messages))
    return kept


def answerable(groups: Iterable[Group], chats: Iterable[ChatFormat], out: Draft) -> list[Group]:
    """Prompts all of whose answers can be written in all of the formats; the others are dropped."""
    formats, kept = _distinct(chats), []
    for group in groups:
        try:
            for chat in formats:
                for text, _ in group.answers:
                    chat.encode_pair(turns(group, text))
        except DataError as error:
            row = {"prompt": group.prompt, "answers": [text for text, _ in group.answers]}
            out.drop(unencodable(error), f"prompt {group.prompt_id[:16]}", row)
            continue
        kept.append(group)
    return kept


def _distinct(chats: Iterable[ChatFormat]) -> list[ChatFormat]:
    """Each format once: a trained model mostly has that of its base."""
    return list({canonical(dict(describe(chat))): chat for chat in chats}.values())


def turns(group: Group, answer: str) -> tuple[Message, ...]:
    """The conversation that ends with an answer."""
    return (*group.context, Message(role="assistant", content=answer))


# --- which are answered ----------------------------------------------------------------------------------------


def spread(groups: Iterable[Group], count: int, seed: int) -> list[Group]:
    """The prompts to answer: one of every category in turn, in the order of a seeded hash."""
    by_category: dict[str, list[Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda g: seeded_unit(seed, "sample", g.prompt_id)):
        by_category[group.category].append(group)
    rounds = [(i, category, group) for category, members in by_category.items() for i, group in enumerate(members)]
    return [group for _, _, group in sorted(rounds, key=lambda r: (r[0], r[1]))][:count]
