"""Talking to a model in the terminal."""

from __future__ import annotations

import sys
from typing import Any

from zephyr.errors import DataError
from zephyr.progress import say
from zephyr.recipe import ModelConfig
from zephyr.records import Message

HELP = "Type a message and press Enter. /reset forgets the conversation, /quit or Ctrl-D ends it."


def talk(model: str, *, system: str, chat_template: str, max_new_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Read messages from stdin and write the model's answers to stdout, token by token, until the end of input."""
    from zephyr.models import load

    ref = load.refer(ModelConfig(path=model))
    chat = load.load_chat(ref, chat_template)
    loaded = load.load_model(ref, attention="sdpa")
    say(f"{ref.name}. {HELP}")
    start: list[Message] = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    turn = 0
    while (text := _read()) is not None:
        if text in ("/quit", "/exit"):
            return
        if text == "/reset":
            messages = list(start)
            say("(forgotten)")
            continue
        if not text.strip():
            continue
        messages.append({"role": "user", "content": text})
        try:
            answer = _answer(loaded, chat, messages, max_new_tokens, temperature, top_p, seed + turn)
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


def _answer(model: Any, chat: Any, messages: list[Message], max_new_tokens: int, temperature: float, top_p: float, seed: int) -> str:
    """The model's answer, written as it is made."""
    import torch
    from transformers import TextStreamer

    ids = torch.tensor([chat.encode_prompt(messages)], device=model.device)
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
