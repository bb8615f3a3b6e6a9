"""Answers of a model held in memory: batches of similar length, sampled so that equal seeds give equal answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zephyr.records import Message, seeded_unit

if TYPE_CHECKING:
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

    Args:
        model: with transformers' `generate`.
        chat: its format; answers end at its stop tokens.
        conversations: each ending with a user turn.
        names: one a conversation; with the seed they decide the sample.
        max_new_tokens: after so many tokens an answer is cut off.
        temperature: 0 takes the most probable token.
        top_p: nucleus sampling.
        seed: equal seeds, names and batches give equal answers on one machine.
        batch_size: conversations at once.
    """
    import torch

    prompts = [chat.encode_prompt(messages) for messages in conversations]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), names[i]))
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    pad = int(chat.tokenizer.pad_token_id)
    for at in range(0, len(order), batch_size):
        batch = order[at : at + batch_size]
        width = max(len(prompts[i]) for i in batch)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in batch], device=model.device)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(int(seeded_unit(seed, "generate", *(names[i] for i in batch)) * 2**53))
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(chat.stop_ids),
                pad_token_id=pad,
                **sampling,
            )
        for i, row in zip(batch, out[:, width:].tolist(), strict=True):
            stop = next((k for k, token in enumerate(row) if token in chat.stop_ids), None)
            answer = row if stop is None else row[:stop]
            text = chat.tokenizer.decode(answer, skip_special_tokens=True)
            yield i, Generated(str(text).strip(), len(answer) + (stop is not None), stop is not None, len(prompts[i]))
