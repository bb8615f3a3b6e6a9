"""Answers of a model held in memory: batches of similar length, each answer sampled by random numbers of its own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zephyr.errors import ModelError, NonFiniteError
from zephyr.models.context import context_of
from zephyr.parts import Keep, nothing_kept
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
    keep: Keep = nothing_kept,
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
        max_new_tokens: after so many tokens an answer is cut off, and where the model's context ends.
        temperature: 0 takes the most probable token.
        top_p: nucleus sampling.
        seed: equal seeds, names and conversations give equal answers on one machine.
        batch_size: conversations at once.
        keep: gives what an interrupted run has kept of these answers, and keeps more.

    Raises:
        ModelError: a prompt leaves no room for an answer in the model's context; nothing was generated yet.
        NonFiniteError: the model's logits are not numbers.
    """
    from zephyr.train import kernels

    prompts = [chat.encode_prompt(messages) for messages in conversations]
    for name, prompt in zip(names, prompts, strict=True):
        if (context := too_long(model, prompt)) is not None:
            raise ModelError(f"the prompt of {name!r} has {len(prompt)} tokens, and the model reads {context} at most, the answer included")
    batches = list(_batches(model, prompts, names, max_new_tokens, batch_size))
    settings = (str(model.dtype), kernels.where_computed(model.device), max_new_tokens, temperature, top_p, seed, sorted(chat.stop_ids))
    kept = keep("answers", (repr(x).encode() for x in (settings, *([(i, names[i], prompts[i]) for i in batch] for batch in batches))))
    for number, batch in enumerate(batches):
        if number in kept:
            yield from zip(batch, (Generated(**answer) for answer in kept[number]), strict=True)
            continue
        rows = sample(
            model, chat, [prompts[i] for i in batch], names=[names[i] for i in batch],
            max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed,
        )  # fmt: skip
        answers = [
            Generated(text_of(chat, answer), len(answer) + ended, ended, len(prompts[i]))
            for i, (answer, ended) in zip(batch, rows, strict=True)
        ]
        kept.keep(number, [asdict(answer) for answer in answers])
        yield from zip(batch, answers, strict=True)


def too_long(model: Any, prompt: Sequence[int]) -> int | None:
    """The model's context, where a prompt fills it; None where there is room for an answer."""
    longest = context_of(model.config).longest
    return longest if longest is not None and len(prompt) >= longest else None


def room_for(model: Any, prompt: Sequence[int], max_new_tokens: int) -> int:
    """How many tokens an answer may have: what is asked for, or what is left of the context."""
    longest = context_of(model.config).longest
    return max_new_tokens if longest is None else min(max_new_tokens, longest - len(prompt))


def _batches(
    model: Any, prompts: Sequence[Sequence[int]], names: Sequence[str], max_new_tokens: int, batch_size: int
) -> Iterator[list[int]]:
    """Indices of prompts of similar length that have the same room for their answers.

    Where positions depend on what else is in a batch, as those of some models do beyond a length, a prompt is alone.
    """
    alike = context_of(model.config).alike

    def kind(i: int) -> tuple[int, bool]:
        room = room_for(model, prompts[i], max_new_tokens)
        return room, alike is not None and len(prompts[i]) + room > alike

    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), names[i]))
    for (_, alone), group in itertools.groupby(order, kind):
        members, size = list(group), 1 if alone else batch_size
        yield from (members[at : at + size] for at in range(0, len(members), size))


def sample(
    model: Any,
    chat: ChatFormat,
    prompts: Sequence[Sequence[int]],
    *,
    names: Sequence[str],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    streamer: Any = None,
) -> list[tuple[list[int], bool]]:
    """The answers to one batch in ids, without the ending one, and whether each has ended of its own accord."""
    import torch
    from transformers import GenerationConfig

    pad = int(chat.tokenizer.pad_token_id)
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    settings = GenerationConfig(
        max_new_tokens=min(room_for(model, prompt, max_new_tokens) for prompt in prompts),
        eos_token_id=list(chat.stop_ids),
        pad_token_id=pad,
        do_sample=False,  # transformers would draw for all rows at once
    )
    with torch.no_grad(), _without_own_settings(model):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=settings,
            logits_processor=[_refuse_nan, *_sampling(names, seed, width, temperature, top_p)],
            streamer=streamer,
        )
    rows = []
    for row in out[:, width:].tolist():
        stop = next((k for k, token in enumerate(row) if token in chat.stop_ids), None)
        rows.append((row[:stop], stop is not None))
    return rows


def text_of(chat: ChatFormat, answer: Sequence[int]) -> str:
    """The text of an answer, as it was said but for space around it."""
    text = chat.tokenizer.decode(list(answer), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text).strip()


@contextlib.contextmanager
def _without_own_settings(model: Any) -> Iterator[None]:
    """What a model's own generation_config says (a penalty on repetition, forced tokens) would act beside the settings it is given."""
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _refuse_nan(ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
    """A logits processor that changes nothing: no token is the most probable of those whose scores are not numbers."""
    if scores_BV.isnan().any():
        raise NonFiniteError("the model's logits are not numbers (NaN); its weights may be damaged")
    return scores_BV


def _sampling(names: Sequence[str], seed: int, width: int, temperature: float, top_p: float) -> list[Any]:
    """What is done to the logits of a batch so that the token of the highest score is a sample, for each row its own."""
    from transformers import TemperatureLogitsWarper

    if temperature == 0:
        return []
    return [TemperatureLogitsWarper(temperature), *([nucleus(top_p)] if top_p < 1 else []), pick_by_name(names, seed, width)]


def nucleus(top_p: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A logits processor that leaves of each row the most probable tokens that make up `top_p` (Holtzman et al. 2020, section 3.1).

    The same as transformers' TopPLogitsWarper, but that of tokens with equal logits at the edge all stay, not those that a sort
    happens to put last. It sorts values alone, which NumPy does 16 times as fast as torch does with their places: for a
    vocabulary of 49,152 and 16 rows 4 ms instead of 70, when a model of 135 million weights takes some 50 for a token.
    """

    def keep(ids_BT: Tensor, scores_BV: Tensor) -> Tensor:
        ascending_BV = _ascending(scores_BV)
        outside_B1 = (ascending_BV.softmax(-1).cumsum(-1) <= 1 - top_p).sum(-1, keepdim=True)
        least_B1 = ascending_BV.gather(-1, outside_B1.clamp(max=scores_BV.shape[-1] - 1))
        return scores_BV.masked_fill(scores_BV < least_B1, -float("inf"))

    return keep


def _ascending(scores_BV: Tensor) -> Tensor:
    """Each row sorted."""
    import numpy
    import torch

    return torch.from_numpy(numpy.sort(scores_BV.numpy(), axis=-1)) if scores_BV.device.type == "cpu" else scores_BV.sort(-1).values


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
