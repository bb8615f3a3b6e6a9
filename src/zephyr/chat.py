"""Talking to a model in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError
from zephyr.progress import say
from zephyr.recipe import EvaluateConfig, ModelConfig, build
from zephyr.records import Message

if TYPE_CHECKING:
    from zephyr.text.chat import ChatFormat

HELP = "Type a message and press Enter. /reset forgets the conversation, /quit or Ctrl-D ends it."


def talk(model: str, *, system: str, chat_template: str, max_new_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Read messages from stdin and write the model's answers to stdout, token by token, until the end of input.

    Raises:
        UsageError: a setting of the sampling is not one that a recipe could have.
    """
    from zephyr.models import load

    sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    build(EvaluateConfig, sampling, {}, "command line")
    ref = load.refer(ModelConfig(path=model))
    chat = load.load_chat(ref, chat_template)
    loaded = load.load_model(ref, chat, attention="generation")
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    messages, turn = list(start), 0
    say(f"{ref.name}. {HELP}")
    while (text := _read()) is not None and text not in ("/quit", "/exit"):
        if text == "/reset":
            messages = list(start)
            say("(forgotten)")
        elif text.strip():
            messages.append({"role": "user", "content": text})
            try:
                answer = _answer(loaded, chat, messages, seed=seed + turn, **sampling)
            except DataError as error:
                messages.pop()
                say(f"({error})")
                continue
            turn += 1
            messages.append({"role": "assistant", "content": answer or "(nothing)"})


def _read() -> str | None:
    """One line of input, or None at its end."""
    try:
        return input("\n> ") if sys.stdin.isatty() else input()
    except EOFError:
        return None


def _prompt(model: Any, chat: ChatFormat, messages: list[Message], max_new_tokens: int) -> tuple[int, ...]:
    """The conversation in ids, without its oldest exchanges where the model's context is too short for them and the answer."""
    room = (getattr(model.config, "max_position_embeddings", None) or 2**31) - max_new_tokens
    first = 1 if messages[0]["role"] == "system" else 0
    while len(ids := chat.encode_prompt(messages)) > room and len(messages) > first + 2:
        del messages[first : first + 2]
        say("(the conversation is longer than the model's context: its oldest exchange is forgotten)")
    return ids


def _answer(
    model: Any, chat: ChatFormat, messages: list[Message], *, max_new_tokens: int, temperature: float, top_p: float, seed: int
) -> str:
    """The model's answer, written as it is made."""
    import torch
    from transformers import TextStreamer

    ids = torch.tensor([_prompt(model, chat, messages, max_new_tokens)], device=model.device)
    sampling: dict[str, Any] = (
        {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0} if temperature else {"do_sample": False}
    )
    streamer = TextStreamer(chat.tokenizer, skip_prompt=True, skip_special_tokens=True)
    torch.manual_seed(seed)
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            eos_token_id=list(chat.stop_ids),
            pad_token_id=chat.tokenizer.pad_token_id,
            streamer=streamer,
            **sampling,
        )
    return str(chat.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()
