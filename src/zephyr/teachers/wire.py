"""The OpenAI chat-completions protocol, what is sent: the key, the body, what a request is known by and what it costs."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from zephyr.errors import UsageError
from zephyr.hashes import canonical
from zephyr.recipe import APIConfig, LocalConfig
from zephyr.records import Message
from zephyr.teachers import Request

MASK = "[key]"
SECRET_CHARACTERS = 16
TEMPLATE_TOKENS, TURN_TOKENS = 64, 16  # more than any chat template known to us adds, in all and a turn


class Secret:
    """A key that no traceback, log or dump shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a key is not written down")

    def header(self) -> str:
        """The one place it goes to."""
        return f"Bearer {self._value}"

    def removed_from(self, text: str) -> str:
        """A text about an error, which might repeat the key, without it."""
        return text.replace(self._value, MASK)

    def removed_from_answer(self, text: str) -> str:
        """An answer without the key; what is too short to be a secret (`EMPTY`, `ollama`) is a word that an answer may hold."""
        return text.replace(self._value, MASK) if len(self._value) >= SECRET_CHARACTERS else text


def secret_of(name: str, config: APIConfig) -> Secret | None:
    """The key of a teacher, out of the environment; None for one that needs none.

    Raises:
        UsageError: the variable is not set, or cannot be sent.
    """
    if config.key_env is None:
        return None
    value = os.environ.get(config.key_env, "").strip()
    if not value:
        raise UsageError(
            f"{name}: the environment variable {config.key_env}, which its key_env names, is not set: export {config.key_env}=…"
        )
    if not value.isascii() or not value.isprintable():
        raise UsageError(f"{name}: the environment variable {config.key_env} holds characters that no key has")
    return Secret(value)


def sampling_of(config: LocalConfig | APIConfig, request: Request) -> dict[str, Any]:
    """What decides an answer, beside the model and the messages."""
    extra: dict[str, Any] = {}
    if isinstance(config, APIConfig):
        extra = dict(config.extra)
        if request.schema is not None and config.structured_output == "json_object":
            extra["response_format"] = {"type": "json_object"}
        if request.schema is not None and config.structured_output == "json_schema":
            form = {"name": "reply", "strict": True, "schema": request.schema}
            extra["response_format"] = {"type": "json_schema", "json_schema": form}
    if isinstance(config, APIConfig) and request.top_logprobs:
        extra |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    # what is null is left to the server
    temperature = config.temperature if request.temperature is None else request.temperature
    set_ = {name: value for name, value in (("temperature", temperature), ("top_p", config.top_p)) if value is not None}
    return {**extra, **set_, "max_new_tokens": limit_of(config, request)}


def limit_of(config: LocalConfig | APIConfig, request: Request) -> int:
    """How many tokens the answer may have."""
    return request.max_new_tokens or config.max_new_tokens


def body_of(config: APIConfig, request: Request) -> bytes:
    """The JSON that is posted."""
    sampling = sampling_of(config, request)
    limit = sampling.pop("max_new_tokens")
    body = {"model": config.model, "messages": list(request.messages), config.length_field: limit, **sampling}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def key_of(name: str, model: str, config: LocalConfig | APIConfig, request: Request) -> bytes:
    """What a request is known by: sha256 of the teacher's name, the model, the messages, the sampling, and which sample it is."""
    identity = [name, model, list(request.messages), sampling_of(config, request), request.sample]
    if isinstance(config, APIConfig) and config.revision is not None:
        identity.append(config.revision)
    return hashlib.sha256(canonical(identity).encode("utf-8")).digest()


def most_tokens(messages: tuple[Message, ...]) -> int:
    """The most tokens that messages may take: no tokenizer in use makes more tokens than a text has bytes."""
    return TEMPLATE_TOKENS + sum(TURN_TOKENS + len(m["content"].encode("utf-8")) for m in messages)


def cost(config: APIConfig, prompt_tokens: int, completion_tokens: int) -> int:
    """In billionths of a dollar."""
    if config.prices is None:
        return 0
    return round(1000 * (config.prices.prompt * prompt_tokens + config.prices.completion * completion_tokens))
