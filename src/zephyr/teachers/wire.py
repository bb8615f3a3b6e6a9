"""The OpenAI chat-completions protocol: what is sent, and how what comes back is read. Nothing is guessed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.artifacts import canonical
from zephyr.errors import DataError, UsageError
from zephyr.recipe import APIConfig, ThinkingConfig
from zephyr.records import Message
from zephyr.teachers import Request

MASK = "[key]"
BODY_LIMIT = 64 * 2**20  # bytes; no answer of a language model is as long
TEMPLATE_TOKENS, TURN_TOKENS = 64, 16  # more than any chat template known to us adds, in all and a turn
ERROR_CHARACTERS = 300


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
        """A text of the server's, which might repeat the key, without it."""
        return text.replace(self._value, MASK)


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


def sampling_of(config: ThinkingConfig, request: Request) -> dict[str, Any]:
    """What decides an answer, beside the model and the messages."""
    extra: dict[str, Any] = {}
    if isinstance(config, APIConfig):
        extra = dict(config.extra)
        if request.schema is not None and config.structured_output == "json_object":
            extra["response_format"] = {"type": "json_object"}
        if request.schema is not None and config.structured_output == "json_schema":
            form = {"name": "reply", "strict": True, "schema": request.schema}
            extra["response_format"] = {"type": "json_schema", "json_schema": form}
    return {"temperature": config.temperature, "top_p": config.top_p, "max_new_tokens": config.max_new_tokens, **extra}


def body_of(config: APIConfig, request: Request) -> bytes:
    """The JSON that is posted."""
    sampling = sampling_of(config, request)
    limit = sampling.pop("max_new_tokens")
    body = {"model": config.model, "messages": list(request.messages), config.length_field: limit, **sampling}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def key_of(name: str, model: str, config: ThinkingConfig, request: Request) -> bytes:
    """What a request is known by: sha256 of the teacher's name, the model, the messages, the sampling, and which sample it is."""
    identity = [name, model, list(request.messages), sampling_of(config, request), request.sample]
    return hashlib.sha256(canonical(identity).encode("utf-8")).digest()


def most_tokens(messages: tuple[Message, ...]) -> int:
    """The most tokens that messages may take: no tokenizer in use makes more tokens than a text has bytes."""
    return TEMPLATE_TOKENS + sum(TURN_TOKENS + len(m["content"].encode("utf-8")) for m in messages)


def cost(config: APIConfig, prompt_tokens: int, completion_tokens: int) -> int:
    """In billionths of a dollar."""
    if config.prices is None:
        return 0
    return round(1000 * (config.prices.prompt * prompt_tokens + config.prices.completion * completion_tokens))


@dataclass(frozen=True)
class Answer:
    """What a server answered. `usage_known`: its token counts can be believed; else they are the most that it can have been."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    usage_known: bool


@dataclass(frozen=True)
class Trouble:
    """Why there is no answer.

    Args:
        kind: `refused`, this request will never be answered; `busy`, the server asks for patience; `failed`, it failed and took
            nothing for it; `cut`, it may have worked and the answer is lost; `closed`, it will answer no request of ours at all.
        problem: in words, without the key.
        congested: whether it is a sign of too many requests at once.
    """

    kind: Literal["refused", "busy", "failed", "cut", "closed"]
    problem: str
    congested: bool = False


# error codes under which a server says that money, not patience, is what is lacking
BROKE = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_credits", "credit_balance_too_low")


def read(config: APIConfig, request: Request, status: int, body: bytes) -> Answer | Trouble:
    """What a server's reply is; the body decides, whatever its content type says."""
    if status == 200:
        try:
            return _answer(config, request, body)
        except DataError as error:  # it worked, and may be paid for: but no answer came
            return Trouble("cut", f"a reply that is no chat completion: {error}")
    problem = f"HTTP {status}" + (f": {message}" if (message := _message(body)) else "")
    if 300 <= status < 400:
        return Trouble("closed", f"{problem}; the server sends us elsewhere: put the address it is meant to have into base_url")
    if status in (401, 403):
        return Trouble("closed", f"{problem}; the key is not accepted")
    if status == 402 or any(code in body.decode("utf-8", "replace") for code in BROKE):
        return Trouble("closed", f"{problem}; the account has no credit left")
    if status in (404, 405):
        return Trouble("closed", f"{problem}; base_url or model is wrong")
    if status == 429 or status == 529:
        return Trouble("busy", problem, congested=True)
    if status == 503:
        return Trouble("failed", problem)
    if status in (408, 502, 504, 522, 524):  # what stands between gave up waiting, the server may not have
        return Trouble("cut", problem, congested=True)
    if status >= 500:
        return Trouble("failed", problem)
    return Trouble("refused", problem)


def _message(body: bytes) -> str:
    """The server's own words for an error."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return " ".join(body[:2000].decode("utf-8", "replace").split())[:ERROR_CHARACTERS]
    for key in ("error", "message", "detail"):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split())[:ERROR_CHARACTERS]


def _answer(config: APIConfig, request: Request, body: bytes) -> Answer:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({str(error)[:100]})") from None
    if not isinstance(value, Mapping):
        raise DataError("not a JSON object")
    choices = value.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise DataError(_message(body) if "error" in value else "`choices` is not a list of one choice")
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, Mapping):
        raise DataError("the choice has no message")
    if not isinstance(reason, str) or not reason:
        raise DataError("`finish_reason` is missing")
    text = message.get("content")
    if text is None and isinstance(refusal := message.get("refusal"), str):
        text, reason = refusal, "refusal"
    if text is None and reason in ("length", "content_filter"):  # all its tokens went into thinking, or the filter took them
        text = ""
    if not isinstance(text, str):
        raise DataError("the message has no text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError("the text holds half a character (a lone surrogate)") from None
    prompt, completion, known = _usage(config, request, text, value.get("usage"))
    return Answer(text, reason, prompt, completion, known)


def _usage(config: APIConfig, request: Request, text: str, usage: object) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the answer as the server counts them, if that can be; else the most that they can be."""
    most = most_tokens(request.messages), config.max_new_tokens
    if isinstance(usage, Mapping):
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if type(prompt) is int and type(completion) is int and 1 <= prompt <= most[0] and int(text != "") <= completion <= most[1]:
            return prompt, completion, True
    return *most, False
