"""Records to sequences of ids, within the lengths of the recipe. What does not fit is cut or dropped as said here, and counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.recipe import SFTConfig
from zephyr.records import Dialogue, Message, Preference
from zephyr.sources import Located
from zephyr.text.chat import ChatFormat, Tokens, adds_bos
from zephyr.train.batches import Example, branching

TOO_LONG = "the first exchange is longer than sft.max_length"


@dataclass(frozen=True)
class Encoded:
    """A dialogue in ids, what of it is learnt, and whether it lost its last exchanges."""

    tokens: Tokens
    cut: bool


def dialogues(records: Sequence[Dialogue], chat: ChatFormat, config: SFTConfig) -> list[Encoded | str]:
    """Dialogues as sequences of at most `max_length` tokens, or the reason why one is left out.

    A dialogue that is too long loses its last exchanges, whole ones, until it fits; one whose first exchange does not fit is left out.
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


def pairs(
    items: Sequence[Located[Preference]], chat: ChatFormat, max_length: int, max_prompt_length: int, out: Draft, split: str
) -> list[EncodedPair]:
    """Pairs as a prompt with two answers each, only the answers learnt.

    A prompt longer than `max_prompt_length` loses its beginning, as in the paper's recipe; a pair one of whose answers then does not
    fit into `max_length` is dropped: an answer is never cut, since it would lose its end.
    """
    encoded: list[EncodedPair] = []
    cut = 0
    for item in items:
        record = item.record
        try:
            prompt, chosen = chat.encode_pair(record.chosen)
            _, rejected = chat.encode_pair(record.rejected)
        except DataError as error:
            out.drop(unencodable(error), item.where, record.row())
            continue
        cut += len(prompt) > max_prompt_length
        prompt = beheaded(prompt, max_prompt_length, chat)
        if len(prompt) + max(len(chosen), len(rejected)) > max_length:
            out.drop("an answer does not fit into dpo.max_length", item.where, record.row())
            continue
        encoded.append(EncodedPair(record.pair_id, branching(prompt, chosen, rejected)))
    if cut:
        out.note(f"{cut} {split} prompts lost their beginning: they were longer than dpo.max_prompt_length ({max_prompt_length} tokens).")
    return encoded


def beheaded(prompt: tuple[int, ...], limit: int, chat: ChatFormat) -> tuple[int, ...]:
    """The last `limit` ids of a prompt, a leading BOS kept: the models that expect one lose their footing without it."""
    if len(prompt) <= limit:
        return prompt
    start = prompt[:1] if limit > 1 and adds_bos(chat.tokenizer) and prompt[0] == chat.tokenizer.bos_token_id else ()
    return start + prompt[len(prompt) - limit + len(start) :]


def unencodable(error: DataError) -> str:
    """Why a row is left out that is well formed, but not for this tokenizer and template (a control token inside a turn).

    Without the particulars of the row, so that equal reasons are counted together.
    """
    reason = re.sub(r"^turn \d+( \(\w+\))?:? ", "", str(error))
    if not reason.startswith("contains the control token"):
        reason = re.sub(r"""(['"]).*?\1""", "…", reason)
    return f"not for this chat format: {reason}"
