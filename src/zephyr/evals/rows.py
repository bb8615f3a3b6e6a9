"""What models are measured on: the rows of the test splits, the same for every model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from zephyr import sources
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError
from zephyr.evals.preference import Group, ordered_pairs
from zephyr.hashes import canonical
from zephyr.pairs import NoPair, checked, score_of
from zephyr.recipe import DataSource, PairPolicy
from zephyr.records import (
    Dialogue,
    Message,
    Preference,
    RatedPrompt,
    content_id,
    parse_dialogue,
    parse_feedback,
    seeded_unit,
)
from zephyr.sources import Located
from zephyr.text.chat import ChatFormat, describe
from zephyr.train.encode import TOO_LONG, beheaded, shortened, unencodable

TOO_FEW = "fewer than two answers are left to compare"
NO_ORDER = "the pair is not compared, only answered: "
Record = TypeVar("Record", Dialogue, Group)


@dataclass(frozen=True)
class Rows:
    """Dialogues for the likelihood, prompts with scored answers for the preferences, and those of them to be answered."""

    dialogues: Sequence[Dialogue]
    groups: Sequence[Group]
    asked: Sequence[Group]

    @property
    def has_order(self) -> bool:
        """Whether any prompt has two answers of which one is the better."""
        return any(ordered_pairs([score for _, score in group.answers]) for group in self.groups)


@dataclass(frozen=True)
class Given(Generic[Record]):
    """What sources hold: the records of the test split, and the ids of the prompts of the train split."""

    test: Sequence[Record]
    train: Collection[str]


# --- reading ---------------------------------------------------------------------------------------------------


def dialogues_of(data: Sequence[DataSource], out: Draft) -> Given[Dialogue]:
    """The dialogues of the test split; none where there are no sources."""
    if not data:
        return Given([], ())
    found = sources.collect(_whole(data), parse_dialogue, out, invalid=None, test_fraction=0.0)
    return Given([item.record for item in found["test"]], _prompts_of(found["train"]))


def groups_of(data: Sequence[DataSource], score: str | Mapping[str, float], out: Draft) -> Given[Group]:
    """Prompts of the test split with their scored answers, or with the two of a pair; none where there are no sources.

    An answer that is empty or has no score is dropped, and so is a prompt that is left with fewer than two. A pair whose scores tie, or
    speak against it, has no order; it is counted with what is dropped.
    """
    if not data:
        return Given([], ())
    found = sources.collect(_whole(data), parse_feedback, out, invalid=None, test_fraction=0.0)
    # a tie that the other score resolves is none: `binarize.ties: second` makes such pairs
    weighed: dict[str, Any] = {"score": score} if isinstance(score, str) else {"score": "weighted", "weights": score}
    policy = PairPolicy.model_validate({**weighed, "ties": "second"})
    records = [item.record for item in found["test"]]
    groups = [_of_pair(r, policy, out) if isinstance(r, Preference) else _of_answers(r, score, out) for r in records]
    return Given([group for group in groups if _is_comparable(group, out)], _prompts_of(found["train"]))


def _whole(data: Sequence[DataSource]) -> list[DataSource]:
    """The sources, but artifacts with their train split too, where only the test split is asked for."""
    return [s.model_copy(update={"split": None}) if s.split == "test" and _is_artifact(s.path) else s for s in data]


def _is_artifact(name: str) -> bool:
    path = sources.resolve(name)
    return path is not None and Manifest.read(path) is not None


def _prompts_of(items: Iterable[Located[Any]]) -> set[str]:
    """The ids of prompts: as the rows give them, and those of their words, since two sets may number one prompt differently."""
    return {name for item in items for name in (item.record.prompt_id, content_id(item.record.prompt))}


def _of_pair(pair: Preference, policy: PairPolicy, out: Draft) -> Group:
    better = 1.0
    if isinstance(none := checked(pair, policy), NoPair):
        out.drop(f"{NO_ORDER}{none.reason}", _place(pair), pair.row())
        better = 0.0
    answers = ((pair.chosen[-1]["content"], better), (pair.rejected[-1]["content"], 0.0))
    return Group(pair.prompt_id, pair.prompt, pair.category, pair.chosen[:-1], answers)


def _of_answers(prompt: RatedPrompt, score: str | Mapping[str, float], out: Draft) -> Group:
    name = score if isinstance(score, str) else "weighted"
    answers = []
    for i, c in enumerate(prompt.completions):
        value = score_of(c.rating, score)
        if not c.response.strip():
            out.drop("the answer is empty", _place(prompt, i), c.row())
        elif value is None:
            out.drop(f"the answer has no score (binarize.score is {name})", _place(prompt, i), c.row())
        else:
            answers.append((c.response, float(value)))
    return Group(prompt.prompt_id, prompt.prompt, prompt.category, ({"role": "user", "content": prompt.prompt},), tuple(answers))


def _is_comparable(group: Group, out: Draft) -> bool:
    """Whether there are two answers to compare; a prompt that has fewer is dropped."""
    if len(group.answers) < 2:
        out.drop(TOO_FEW, _place(group), _row(group))
    return len(group.answers) > 1


def _place(record: Dialogue | RatedPrompt | Preference | Group, answer: int | None = None) -> str:
    return f"prompt {record.prompt_id[:16]}" + ("" if answer is None else f", answer {answer}")


def _row(record: Dialogue | Group) -> Mapping[str, Any]:
    if isinstance(record, Dialogue):
        return record.row()
    return {"prompt": record.prompt, "answers": [text for text, _ in record.answers]}


# --- what every model can be measured on -------------------------------------------------------------------------


def unseen(records: Iterable[Record], train: Collection[str], out: Draft) -> list[Record]:
    """Records whose prompt is, by its id and by its words, none of those in train splits; the others are dropped."""
    kept = []
    for record in records:
        if record.prompt_id in train or content_id(record.prompt) in train:
            out.drop("the prompt is in a train split, too", _place(record), _row(record))
        else:
            kept.append(record)
    return kept


def readable(dialogues: Iterable[Dialogue], chats: Iterable[ChatFormat], max_length: int, out: Draft) -> list[Dialogue]:
    """Dialogues without the last exchanges that are too long in any of the formats; what cannot be kept is dropped."""
    formats, kept, cut = _distinct(chats), [], 0
    for d in dialogues:
        try:
            messages = shortened(d.messages, lambda turns: all(len(chat.encode(turns).ids) <= max_length for chat in formats))
        except DataError as error:
            out.drop(unencodable(error), _place(d), d.row())
            continue
        if messages is None:
            out.drop(TOO_LONG, _place(d), d.row())
            continue
        cut += len(messages) < len(d.messages)
        kept.append(replace(d, messages=messages))
    if cut:
        out.note(f"{cut} test dialogues lost their last exchanges: they were longer than sft.max_length ({max_length} tokens).")
    return kept


def answerable(groups: Iterable[Group], chats: Iterable[ChatFormat], max_length: int, max_prompt_length: int, out: Draft) -> list[Group]:
    """Prompts with those of their answers that fit, after the prompt, into `max_length` in all of the formats, as in training.

    An answer that does not fit is dropped, never cut; so is a prompt that is left with fewer than two, or cannot be written.
    """
    formats, kept, cut = _distinct(chats), [], set()
    for group in groups:
        try:
            sizes = [_sizes(group, chat, max_prompt_length) for chat in formats]
        except DataError as error:
            out.drop(unencodable(error), _place(group), _row(group))
            continue
        fitting = []
        for i, answer in enumerate(group.answers):
            if all(whole[i] <= max_length for _, whole in sizes):
                fitting.append(answer)
            else:
                out.drop("the answer does not fit into dpo.max_length", _place(group, i), {"prompt": group.prompt, "answer": answer[0]})
        group = replace(group, answers=tuple(fitting))
        if _is_comparable(group, out):
            kept.append(group)
            cut |= {group.prompt_id} if any(was_cut for was_cut, _ in sizes) else set()
    if cut:
        out.note(f"{len(cut)} test prompts lost their beginning: they were longer than dpo.max_prompt_length ({max_prompt_length} tokens).")
    return kept


def _sizes(group: Group, chat: ChatFormat, max_prompt_length: int) -> tuple[bool, list[int]]:
    """(whether the prompt loses its beginning, the tokens of what is left of it and each answer)."""
    encoded = [chat.encode_pair(turns(group, text)) for text, _ in group.answers]
    prompt = encoded[0][0]
    left = len(beheaded(prompt, max_prompt_length, chat))
    return left < len(prompt), [left + len(answer) for _, answer in encoded]


def _distinct(chats: Iterable[ChatFormat]) -> list[ChatFormat]:
    """Each format once: a trained model mostly has that of its base."""
    return list({canonical(dict(describe(chat))): chat for chat in chats}.values())


def turns(group: Group, answer: str) -> tuple[Message, ...]:
    """The conversation that ends with an answer."""
    return (*group.context, Message(role="assistant", content=answer))


# --- which are answered ----------------------------------------------------------------------------------------


def spread(groups: Iterable[Group], count: int, seed: int) -> list[Group]:
    """The prompts to answer, each once: one of every category in turn, in the order of a seeded hash."""
    by_category: dict[str, list[Group]] = defaultdict(list)
    once = {tuple((m["role"], m["content"]) for m in group.context): group for group in groups}  # a prompt may have several pairs
    for group in sorted(once.values(), key=lambda g: seeded_unit(seed, "sample", g.prompt_id)):
        by_category[group.category].append(group)
    rounds = [(i, category, group) for category, members in by_category.items() for i, group in enumerate(members)]
    return [group for _, _, group in sorted(rounds, key=lambda r: (r[0], r[1]))][:count]
