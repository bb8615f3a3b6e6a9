"""Answers of a model held in memory: batches of similar length, each answer sampled by random numbers of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr.records import Message, seeded_unit

if TYPE_CHECKING:
    from torch import Tensor

    from zephyr.text.chat import ChatFormat


@dataclass(frozen=True)
class Generated:
    """An answer, its length in tokens (the ending one included), and whether it ended of its own accord."""

    text: str
    tokens: int
    ended: bool
    prompt_tokens: int


def generate(
    model: Any,
    chat: ChatFormat,
    conversations: Sequence[Sequence[Message]],
    *,
    names: Sequence[str],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    batch_size: int = 16,
) -> Iterator[tuple[int, Generated]]:
    """(index, answer) for each conversation, batch by batch.

    The random numbers of an answer depend on the seed and its name alone, not on what else is asked. What shares its batch
    can still change the last bits of its logits, through the width and the number of rows, and with them a token whose
    random number falls just between two.

    Args:
        model: with transformers' `generate`.
        chat: its format; answers end at its stop tokens.
        conversations: each ending with a user turn.
        names: one a conversation; with the seed they decide the sample. Equal names get equal random numbers.
        max_new_tokens: after so many tokens an answer is cut off.
        temperature: 0 takes the most probable token.
        top_p: nucleus sampling.
        seed: equal seeds, names and conversations give equal answers on one machine.
        batch_size: conversations at once.
    """
    import torch

    prompts = [chat.encode_prompt(messages) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), names[i]))
    pad = int(chat.tokenizer.pad_token_id)
    for at in range(0, len(order), batch_size):
        batch = order[at : at + batch_size]
        width = max(len(prompts[i]) for i in batch)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch], device=model.device)
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(chat.stop_ids),
                pad_token_id=pad,
                do_sample=False,  # transformers would draw for all rows at once
                logits_processor=_sampling([names[i] for i in batch], seed, width, temperature, top_p),
            )
        for i, row in zip(batch, out[:, width:].tolist(), strict=True):
            stop = next((k for k, token in enumerate(row) if token in chat.stop_ids), None)
            answer = row if stop is None else row[:stop]
            text = chat.tokenizer.decode(answer, skip_special_tokens=True)
            yield i, Generated(str(text).strip(), len(answer) + (stop is not None), stop is not None, len(prompts[i]))


def _sampling(names: Sequence[str], seed: int, width: int, temperature: float, top_p: float) -> list[Any]:
    """What is done to the logits of a batch so that the token of the highest score is a sample, for each row its own."""
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    if temperature == 0:
        return []
    nucleus = [TopPLogitsWarper(top_p)] if top_p < 1 else []
    return [TemperatureLogitsWarper(temperature), *nucleus, pick_by_name(names, seed, width)]


def pick_by_name(names: Sequence[str], seed: int, width: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A logits processor that leaves each row one token: where the row's random number falls in its cumulative distribution.

    Args:
        names: one a row; a row's number at a step depends on the seed, its name and how many tokens it has said.
        seed: of the numbers.
        width: length of the prompts.
    """
    import torch

    def pick(ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
        said = ids_BT.shape[1] - width
        units = [[seeded_unit(seed, "generate", name, said)] for name in names]
        unit_B1 = torch.tensor(units, dtype=torch.float64, device=scores_BV.device)
        upto_BV = scores_BV.double().softmax(-1).cumsum(-1)
        token_B1 = torch.searchsorted(upto_BV, unit_B1 * upto_BV[:, -1:], right=True)
        return torch.full_like(scores_BV, -torch.inf).scatter_(1, token_B1, 0.0)

    return pick
