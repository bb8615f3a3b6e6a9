"""Records to sequences of ids, within the lengths of the recipe. What does not fit is cut or dropped as said here, and counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.recipe import SFTConfig, Truncation
from zephyr.records import Dialogue, Message, Preference
from zephyr.sources import Located
from zephyr.text.chat import ChatFormat
from zephyr.text.tokens import Tokens, adds_bos
from zephyr.train.batches import Example, branching

TOO_LONG = "the first exchange is longer than sft.max_length"
TOO_LONG_AS_A_WHOLE = "the dialogue is longer than sft.max_length"


@dataclass(frozen=True)
class Encoded:
    """A dialogue in ids, what of it is learnt, and whether it lost its last exchanges."""

    tokens: Tokens
    cut: bool


def dialogues(records: Sequence[Dialogue], chat: ChatFormat, config: SFTConfig) -> list[Encoded | str]:
    """Dialogues as sequences of at most `max_length` tokens, or the reason why one is left out.

    A dialogue that is too long loses its last exchanges, whole ones, until it fits; one whose first exchange does not fit is left out,
    and so is every one that is too long where the recipe says `drop`.
    """
    found: dict[int, Encoded | str] = {}
    waiting = {at: record.messages for at, record in enumerate(records)}
    while waiting:
        longer: dict[int, tuple[Message, ...]] = {}
        for (at, messages), tokens in zip(waiting.items(), chat.encode_each(list(waiting.values()), loss_on=config.loss_on), strict=True):
            if isinstance(tokens, DataError):
                found[at] = unencodable(tokens)
            elif len(tokens.ids) <= config.max_length:
                found[at] = Encoded(tokens, cut=len(messages) < len(records[at].messages))
            elif config.truncation == "drop":
                found[at] = TOO_LONG_AS_A_WHOLE
            elif shorter := _without_last_exchange(messages):
                longer[at] = shorter
            else:
                found[at] = TOO_LONG
        waiting = longer
    return [found[at] for at in range(len(records))]


def shortened(messages: tuple[Message, ...], fits: Callable[[tuple[Message, ...]], bool]) -> tuple[Message, ...] | None:
    """The turns without the last exchanges, as few as need be to fit; None if even the first exchange does not."""
    while not fits(messages):
        shorter = _without_last_exchange(messages)
        if shorter is None:
            return None
        messages = shorter
    return messages


def _without_last_exchange(messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """None where that leaves nobody's answer."""
    shorter = messages[:-2]
    return shorter if any(m["role"] == "assistant" for m in shorter) else None


@dataclass(frozen=True)
class EncodedPair:
    """A preference in ids, with its `pair_id`: the prompt, and as its branches the chosen answer and the rejected."""

    id: str
    answers: Example


class Lengths(Protocol):
    """How many tokens of a pair are used, and what becomes of more: a part of the settings of dpo."""

    # D102: the recipe says what each is
    @property
    def max_length(self) -> int: ...  # noqa: D102
    @property
    def max_prompt_length(self) -> int: ...  # noqa: D102
    @property
    def truncation(self) -> Truncation: ...  # noqa: D102


def pairs(items: Sequence[Located[Preference]], chat: ChatFormat, lengths: Lengths, out: Draft, split: str) -> list[EncodedPair]:
    """Pairs as a prompt with two answers each, only the answers learnt; what is cut and what is left out is counted in `out`.

    A prompt longer than `max_prompt_length` loses its beginning, as in the paper's recipe, or takes its pair along (`drop`). An answer
    that then does not fit into `max_length` takes its pair along, since cut it would lose its end; only where the recipe asks for it
    (`answer_right`) is it cut, and then a pair with an answer of which nothing is left, or whose answers are the same then, is left out.
    """
    encoded: list[EncodedPair] = []
    cut = {"prompts": 0, "answers": 0}
    for item in items:
        record = item.record
        try:
            whole, chosen = chat.encode_pair(record.chosen)
            _, rejected = chat.encode_pair(record.rejected)
        except DataError as error:
            out.drop(unencodable(error), item.where, record.row())
            continue
        prompt = beheaded(whole, lengths.max_prompt_length, chat)
        answers = tuple(answer[: max(0, lengths.max_length - len(prompt))] for answer in (chosen, rejected))
        shorter = sum(map(len, (chosen, rejected))) > sum(map(len, answers)), len(prompt) < len(whole)
        if problem := _unfit(answers, *shorter, lengths.truncation):
            out.drop(problem, item.where, record.row())
            continue
        cut["prompts"] += len(prompt) < len(whole)
        cut["answers"] += sum(len(kept) < len(answer) for kept, answer in zip(answers, (chosen, rejected), strict=True))
        encoded.append(EncodedPair(record.pair_id, branching(prompt, *answers)))
    _tell(cut, lengths, out, split)
    return encoded


def _unfit(answers: Sequence[Sequence[int]], answer_cut: bool, prompt_cut: bool, policy: Truncation) -> str | None:
    """Why a pair is left out, or None."""
    if prompt_cut and policy == "drop":
        return "the prompt is longer than dpo.max_prompt_length"
    if answer_cut and policy != "answer_right":
        return "an answer does not fit into dpo.max_length"
    if not all(answers):
        return "nothing of an answer fits into dpo.max_length"
    return "what fits of both answers into dpo.max_length is the same" if answer_cut and answers[0] == answers[1] else None


def _tell(cut: Mapping[str, int], lengths: Lengths, out: Draft, split: str) -> None:
    """Count what was cut in the manifest, and say it."""
    out.manifest.results.setdefault("cut", {})[split] = dict(cut)
    if cut["prompts"]:
        limit = f"dpo.max_prompt_length ({lengths.max_prompt_length} tokens)"
        out.note(f"{cut['prompts']} {split} prompts lost their beginning: they were longer than {limit}.")
    if cut["answers"]:
        limit = f"dpo.max_length ({lengths.max_length} tokens, the prompt included)"
        out.note(f"{cut['answers']} {split} answers lost their end, and the token that says so: they did not fit into {limit}.")


def beheaded(prompt: tuple[int, ...], limit: int, chat: ChatFormat) -> tuple[int, ...]:
    """The last `limit` ids of a prompt, a leading BOS kept: the models that expect one lose their footing without it.

    It may be the tokenizer's or the template's own. What every turn begins with is none, though it be called so (SmolLM2).
    """
    if len(prompt) <= limit:
        return prompt
    bos = chat.tokenizer.bos_token_id
    begins = prompt[0] == bos and (adds_bos(chat.tokenizer) or bos not in prompt[1:])
    start = prompt[:1] if limit > 1 and begins else ()
    return start + prompt[len(prompt) - limit + len(start) :]


def unencodable(error: DataError) -> str:
    """Why a row is left out that is well formed, but not for this tokenizer and template (a control token inside a turn).

    Without the particulars of the row, so that equal reasons are counted together.
    """
    reason = re.sub(r"^turn \d+( \(\w+\))?:? ", "", str(error))
    if not reason.startswith("contains the control token"):
        reason = re.sub(r"""(['"]).*?\1""", "…", reason)
    return f"not for this chat format: {reason}"
