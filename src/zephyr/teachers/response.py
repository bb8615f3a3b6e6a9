"""The OpenAI chat-completions protocol, what comes back: an answer, or why there is none. Nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from zephyr.errors import DataError
from zephyr.recipe import APIConfig
from zephyr.teachers import Request
from zephyr.teachers.wire import limit_of, most_tokens

MOST_BELIEVED = 10_000_000  # tokens of one call; what is more is no count
BODY_LIMIT = 16 * 2**20  # bytes, unpacked; no answer of a language model is as long
ERROR_CHARACTERS = 300
NAME_CHARACTERS = 200  # of the name of a model


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    `usage_known`: its token counts can be believed; else they are the most that it can have been. `served`: the model, as the
    server calls it; empty where it does not say.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    usage_known: bool
    served: str = ""


@dataclass(frozen=True)
class Trouble:
    """Why there is no answer.

    Args:
        kind: `refused`, this request will never be answered; `busy`, the server asks for patience; `failed`, it failed and took
            nothing for it; `cut`, it may have worked and the answer is lost; `closed`, it will answer no request of ours at all.
        problem: in words, without the key.
        congested: whether it is a sign of too many requests at once.
        connected: whether the request left at all.
        of_all: of `closed`: whether it means all requests even if others were answered; if not, it is the request that is refused.
        worked: of `closed`: whether the server did its work, so that this request may have been paid for.
    """

    kind: Literal["refused", "busy", "failed", "cut", "closed"]
    problem: str
    congested: bool = False
    connected: bool = True
    of_all: bool = True
    worked: bool = False


class NoLogProbabilitiesError(DataError):
    """The reply is one, and does not say how probable its tokens were."""


# error codes under which a server says that money, not patience, is what is lacking
BROKE = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_credits", "credit_balance_too_low")
Mask = Callable[[str], str]


def read(config: APIConfig, request: Request, status: int, body: bytes, mask: Mask) -> Answer | Trouble:
    """What a server's reply is; the body decides, whatever its content type says.

    Args:
        config: of the teacher.
        request: what it was asked.
        status: of HTTP.
        body: as it came.
        mask: takes out what must not be repeated; applied before anything is cut short.
    """
    if 200 <= status < 300:
        try:
            return _answer(config, request, body)
        except NoLogProbabilitiesError as error:
            return Trouble("closed", f"{config.model} is asked for log-probabilities, and {error}", worked=True)
        except DataError as error:  # it worked, and may be paid for: but no answer came
            began = mask(_printable(body.decode("utf-8", "replace")))[:ERROR_CHARACTERS]
            return Trouble("cut", f"a reply that is no chat completion: {mask(str(error))[:ERROR_CHARACTERS]}; it begins {began!r}")
    value = _json(body)
    message = mask(_message(value, body))[:ERROR_CHARACTERS]
    problem = f"HTTP {status}" + (f": {message}" if message else "")
    if 300 <= status < 400:
        return Trouble("closed", f"{problem}; the server sends us elsewhere: put the address it is meant to have into base_url")
    if status == 402 or _is_broke(value):
        return Trouble("closed", f"{problem}; the account has no credit left")
    if status == 401:
        return Trouble("closed", f"{problem}; the key is not accepted")
    if status == 403:  # of a moderated prompt too
        return Trouble("closed", f"{problem}; the key is not accepted", of_all=False)
    if status in (404, 405):
        return Trouble("closed", f"{problem}; base_url or model is wrong", of_all=False)
    if status in (429, 529):
        return Trouble("busy", problem, congested=True)
    if status in (409, 425, 500, 501, 503):  # 409, 425: an earlier sending of the same request is being worked on
        return Trouble("failed", problem)
    if status in (408, 499) or status > 500:  # what stands between gave up waiting, the server may not have
        return Trouble("cut", problem, congested=True)
    return Trouble("refused", problem)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _is_broke(value: object) -> bool:
    error = value.get("error", value) if isinstance(value, Mapping) else None
    return isinstance(error, Mapping) and any(error.get(name) in BROKE for name in ("code", "type", "status"))


def _printable(text: str) -> str:
    """In one line, and such that it can be written down and shown: no half characters, none that a terminal obeys."""
    line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _message(value: object, body: bytes) -> str:
    """The server's own words for an error, whole."""
    if value is None:
        return _printable(body[: 2**16].decode("utf-8", "replace"))
    for key in ("error", "message", "detail"):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
    return _printable(value if isinstance(value, str) else json.dumps(value))


def _answer(config: APIConfig, request: Request, body: bytes) -> Answer:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({str(error)[:100]})") from None
    if not isinstance(value, Mapping):
        raise DataError("not a JSON object")
    choices = value.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], Mapping):
        raise DataError(_message(value, body) if "error" in value else "`choices` is not a list of one choice")
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, Mapping):
        raise DataError("the choice has no message")
    if not isinstance(reason, str) or not reason:
        raise DataError("`finish_reason` is missing")
    if reason in ("error", "abort") or choices[0].get("error"):  # half a text, or none, of a server that failed meanwhile
        raise DataError(f"it ended with {reason!r}")
    text = message.get("content")
    if text is None and isinstance(refusal := message.get("refusal"), str):
        text, reason = refusal, "refusal"
    if text is None:  # all its tokens went into thinking, or a filter took them: an empty answer, which is kept as one
        text = ""
    if isinstance(text, list):
        text = _joined(text)
    if not isinstance(text, str):
        raise DataError("the message has no text")
    said = text
    if request.top_logprobs:  # of a reply that was withheld there are none, whatever the server gives of others
        text = "[]" if reason in ("content_filter", "refusal") else _first_token(choices[0].get("logprobs"))
    for part in (text, reason):
        try:
            part.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError("the text holds half a character (a lone surrogate)") from None
    prompt, completion, known = _usage(config, request, said, value.get("usage"))
    served = value.get("model")
    return Answer(text, reason, prompt, completion, known, _printable(served) if isinstance(served, str) else "")


def _first_token(logprobs: object) -> str:
    """The most probable tokens in the place of the first, as JSON: `token`, and `logprob` in nats; none of an empty reply."""
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(tokens, list):
        raise NoLogProbabilitiesError("the server gives none; take a judge that does, or have it judge in words")
    top = tokens[0].get("top_logprobs") if tokens and isinstance(tokens[0], Mapping) else []
    if tokens and (not isinstance(top, list) or not top):
        raise NoLogProbabilitiesError("the server gives that of one token alone (no top_logprobs); take a judge that gives more")
    found = [
        {"token": entry["token"], "logprob": float(entry["logprob"])}
        for entry in top or ()
        if isinstance(entry, Mapping) and isinstance(entry.get("token"), str) and _is_logprob(entry.get("logprob"))
    ]
    return json.dumps(found)


def _is_logprob(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 <= value <= 1e6  # and no NaN


def _joined(parts: list[object]) -> str:
    """A text that comes in parts."""
    texts = [part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None for part in parts]
    if any(not isinstance(text, str) for text in texts):
        raise DataError("the message has parts that are no text")
    return "".join(map(str, texts))


def _usage(config: APIConfig, request: Request, text: str, usage: object) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the answer as the server counts them, if that can be; else the most that they can be.

    A server that claims more than can be (a long system prompt of its own, thoughts that do not count towards the limit) may
    well bill it: the larger figure is counted, and said not to be believed.
    """
    most = most_tokens(request.messages), limit_of(config, request)
    given = (usage.get("prompt_tokens"), usage.get("completion_tokens")) if isinstance(usage, Mapping) else (None, None)
    counts = [n if type(n) is int and 0 <= n <= MOST_BELIEVED else None for n in given]
    prompt, completion = counts
    sent = prompt is not None and 1 <= prompt <= most[0]
    back = completion is not None and int(text != "") <= completion <= most[1]
    # each figure by itself: that one cannot be says nothing of the other
    return (
        prompt if sent and prompt is not None else max(most[0], prompt or 0),
        completion if back and completion is not None else max(most[1], completion or 0),
        sent and back,
    )
