"""Talking to a model in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError, ModelError
from zephyr.progress import say
from zephyr.recipe import EvaluateConfig, ModelConfig, build
from zephyr.records import Message

if TYPE_CHECKING:
    from zephyr.text.chat import ChatFormat

HELP = "Type a message and press Enter. /reset forgets the conversation, /quit or Ctrl-D ends it."


def talk(model: str, *, system: str, chat_template: str, max_new_tokens: int, temperature: float, top_p: float, seed: int) -> None:
    """Read messages from stdin and write the model's answers to stdout, token by token, until the end of input.

    An answer is drawn by the seed, which may be any whole number, and by how many were drawn before it.

    Raises:
        UsageError: a setting of the sampling is not one that a recipe could have.
        ModelError: the model cannot be used, or its context is not longer than an answer may be.
    """
    from zephyr.models import load
    from zephyr.models.context import context_of

    sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_p": top_p}
    build(EvaluateConfig, sampling, {}, "command line")
    ref = load.refer(ModelConfig(path=model))
    chat = load.load_chat(ref, chat_template, learns=False)
    loaded = load.load_model(ref, chat, attention="generation")
    context = context_of(loaded.config).longest
    if context is not None and max_new_tokens >= context:
        raise ModelError(
            f"--max-new-tokens is {max_new_tokens}, but {ref.name} reads {context} tokens at most, the answer included; give less"
        )
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
                answer = _answer(loaded, chat, messages, name=f"answer {turn}", seed=seed, **sampling)
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
    """The conversation in ids, without its oldest exchanges where the model's context is too short for them and the answer.

    Raises:
        DataError: the last message is longer than the context.
    """
    from zephyr.models.generate import room_for, too_long

    first = 1 if messages[0]["role"] == "system" else 0
    while room_for(model, ids := chat.encode_prompt(messages), max_new_tokens) < max_new_tokens and len(messages) > first + 2:
        del messages[first : first + 2]
        say("(the conversation is longer than the model's context: its oldest exchange is forgotten)")
    if (context := too_long(model, ids)) is not None:
        raise DataError(f"that makes {len(ids)} tokens, and the model reads {context} at most, its answer included")
    return ids


def _answer(
    model: Any,
    chat: ChatFormat,
    messages: list[Message],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    name: str,
    seed: int,
) -> str:
    """The model's answer, written as it is made."""
    from transformers import TextStreamer

    from zephyr.models.generate import sample, text_of

    class Streamer(TextStreamer):
        """Writes what is said; the token that ends a turn is a special one for transformers only where the tokenizer says so."""

        def put(self, value: Any) -> None:
            is_prompt = self.next_tokens_are_prompt
            if is_prompt or int(value) not in chat.stop_ids:
                super().put(value)  # type: ignore[no-untyped-call]  # transformers' streamer has no types

    ids = _prompt(model, chat, messages, max_new_tokens)
    streamer = Streamer(chat.tokenizer, skip_prompt=True, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ((answer, _),) = sample(
        model, chat, [ids], names=[name], max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, streamer=streamer
    )
    return text_of(chat, answer)
