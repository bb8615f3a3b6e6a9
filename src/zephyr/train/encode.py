"""Records to sequences of ids, within the lengths of the recipe. What does not fit is cut or dropped as said here, and counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zephyr.artifacts import Draft, canonical, sha256_text
from zephyr.errors import DataError
from zephyr.recipe import SFTConfig
from zephyr.records import Dialogue, Message, Preference
from zephyr.sources import Located
from zephyr.text.chat import ChatFormat, adds_bos
from zephyr.train.batches import Example, branching, pack
from zephyr.train.tasks import Dialogues

TOO_LONG = "the first exchange is longer than sft.max_length"


def dialogues(items: Sequence[Located[Dialogue]], chat: ChatFormat, config: SFTConfig, out: Draft, split: str) -> list[Dialogues]:
    """Dialogues as sequences of at most `max_length` tokens; packed several to a sequence, if the recipe says so.

    A dialogue that is too long loses its last exchanges, whole ones, until it fits; one whose first exchange does not fit
    is dropped. The test split is not packed: its loss is the same either way.
    """
    examples: list[tuple[str, Example]] = []
    cut = 0
    for item in items:
        try:
            example, was_cut = _fitting(item.record, chat, config)
        except DataError as error:
            out.drop(unencodable(error), item.where, item.record.row())
            continue
        if example is None:
            out.drop(TOO_LONG, item.where, item.record.row())
            continue
        cut += was_cut
        examples.append((item.record.prompt_id, example))
    if cut:
        out.note(f"{cut} {split} dialogues lost their last exchanges: they were longer than sft.max_length ({config.max_length} tokens).")
    if not config.packing or split == "test":
        return [Dialogues(name, (example,)) for name, example in examples]
    bins = pack([len(e.ids) for _, e in examples], config.max_length)
    return [Dialogues(_pack_name([examples[i][0] for i in members]), tuple(examples[i][1] for i in members)) for members in bins]


def _pack_name(ids: Sequence[str]) -> str:
    """Of the dialogues in it, shortened for the reader; the order hangs on it, so a hash of the whole ids keeps apart what begins alike."""
    return "+".join(name[:16] for name in ids) + f" ({sha256_text(canonical(list(ids)))[:12]})"


def _fitting(record: Dialogue, chat: ChatFormat, config: SFTConfig) -> tuple[Example | None, bool]:
    """The dialogue, or as much of it as fits, and whether it was cut."""
    example = Example((), ())

    def fits(turns: tuple[Message, ...]) -> bool:
        nonlocal example
        tokens = chat.encode(turns, loss_on=config.loss_on)
        example = Example(tokens.ids, tokens.learnt)
        return len(tokens.ids) <= config.max_length

    messages = shortened(record.messages, fits)
    return (None, False) if messages is None else (example, len(messages) < len(record.messages))


def shortened(messages: tuple[Message, ...], fits: Callable[[tuple[Message, ...]], bool]) -> tuple[Message, ...] | None:
    """The turns without the last exchanges, as few as need be to fit; None if even the first exchange does not."""
    while not fits(messages):
        messages = messages[:-2]
        if not any(m["role"] == "assistant" for m in messages):
            return None
    return messages


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
