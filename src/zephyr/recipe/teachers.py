"""Who is asked, how fast, and for how much."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, field_validator, model_serializer

from zephyr.recipe.base import Count, DataSource, Name, Positive, Section, Template


class ReplayConfig(Section):
    """Answers or ratings that were recorded in a file, given back."""

    # who answers: replay, a recording; local, a model run here; api, a model behind a server
    kind: Literal["replay"]
    # the recording
    path: Name

    def recordings(self) -> list[DataSource]:
        """The file it reads."""
        return [DataSource(path=self.path)]


class ThinkingConfig(Section):
    """What every teacher that thinks is told: the paper's pool samples at temperature 1, 1,024 tokens at most."""

    # how long an answer may be
    max_new_tokens: Count = 1024

    def recordings(self) -> list[DataSource]:
        """None: it is asked."""
        return []


class LocalConfig(ThinkingConfig):
    """A model folder or name, run in this process."""

    # who answers: replay, a recording; local, a model run here; api, a model behind a server
    kind: Literal["local"]
    # a model folder, a hub name, or a name that `zephyr models list` shows
    path: Name
    # a judge rates at 0 unless another is set here
    temperature: Annotated[float, Field(ge=0)] = 1.0
    # nucleus sampling: the most probable tokens that have this share together
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    # `zephyr`, `tokenizer` (its own, also where none is set), or the path of a Jinja file
    chat_template: Template | None = None

    # on the hub: at which commit, tag or branch
    revision: Name | None = None
    # run code that a model folder brings along: off, unless its author is trusted
    trust_remote_code: bool = False

    @model_serializer(mode="wrap")
    def _what_is_set(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What is not set is no part of what a stage was made from: there were no such settings once."""
        later = {"chat_template": None, "revision": None, "trust_remote_code": False}
        return {name: value for name, value in handler(self).items() if name not in later or value != later[name]}


class PricesConfig(Section):
    """What a million tokens cost, in US dollars."""

    # of what is sent
    prompt: Annotated[float, Field(ge=0)]
    # of what comes back
    completion: Annotated[float, Field(ge=0)]


class LimitsConfig(Section):
    """How fast a server may be asked. It is found out how much it takes; these are what it must not pass."""

    # requests that wait for an answer at the same time
    max_in_flight: Count = 64
    # no limit if unset
    requests_per_minute: Positive | None = None
    # sent and coming back; no limit if unset
    tokens_per_minute: Positive | None = None
    # one answer may take so long
    timeout_s: Positive = 600
    # a server that has answered nothing for so long is given up; the others go on
    patience_s: Positive = 600


# fields of a request that are not for `extra`: all that settings of their own say, or that would change what one reply is
OURS = {"model", "messages", "stream", "n", "best_of", "temperature", "top_p", "response_format"} | {
    f"{what}_tokens" for what in ("max", "max_completion", "max_new", "max_output")
} | {"n_predict", "num_predict"}  # fmt: skip


def _names(value: object) -> list[str]:
    """Every name in a value, however deep."""
    if isinstance(value, dict):
        return [*value, *(name for inner in value.values() for name in _names(inner))]
    return [name for inner in value for name in _names(inner)] if isinstance(value, list) else []


class APIConfig(ThinkingConfig):
    """A model behind a server that speaks the OpenAI chat-completions protocol: OpenAI, vLLM, llama.cpp, Ollama, TGI, a gateway."""

    # who answers: replay, a recording; local, a model run here; api, a model behind a server
    kind: Literal["api"]
    # up to and without /chat/completions: http://localhost:8000/v1
    base_url: Name
    # the name that the server knows the model under
    model: Name
    # something to change when the model behind that name does: answers of another are not used
    revision: Name | None = None
    # a judge rates at 0 unless another is set here; null is left to the server, for models that refuse to be told
    temperature: Annotated[float, Field(ge=0)] | None = 1.0
    # nucleus sampling; null is left to the server
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    # the environment variable that holds the key; never the key
    key_env: Name | None = Field(default=None, exclude=True)
    # further fields of each request, for servers that know them: {top_k: 20, reasoning_effort: low}
    extra: dict[str, JsonValue] = {}
    # what the server calls the limit on an answer's length
    length_field: Literal["max_tokens", "max_completion_tokens"] = Field(default="max_tokens", exclude=True)
    # ratings: whether the server can be held to JSON, or to our schema of it; the reply is read as strictly either way
    structured_output: Literal["none", "json_object", "json_schema"] = "none"
    prices: PricesConfig | None = Field(default=None, exclude=True)
    limits: LimitsConfig = Field(default=LimitsConfig(), exclude=True)
    # a request that was cut off after the server may have worked: resend may pay for it twice, skip goes without the answer
    unknown: Literal["resend", "skip"] = "resend"

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str) -> str:
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError("an address was expected, as http://localhost:8000/v1 or https://HOST/v1")
        if address.username or address.password:
            raise ValueError("holds a user or a password; put a key into an environment variable and name it in key_env")
        if address.query or address.fragment:
            raise ValueError("must end with the path, without ? or #")
        return value.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str | None) -> str | None:
        # what is wrong here may be the key itself: it must not be repeated
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            raise ValueError("the NAME of an environment variable was expected (capitals, digits, _), never the key itself")
        return value

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        if ours := sorted(OURS & set(value)):
            raise ValueError(f"{ours[0]} is set by zephyr and by settings of its own; take it out")
        if secret := next(
            (name for name in _names(value) if re.search(r"api_?key|auth|secret|passw|credential|access_token", name, re.IGNORECASE)), None
        ):
            raise ValueError(f"{secret} looks like a key, and what is here is written down; name an environment variable in key_env")
        return value


TeacherConfig = Annotated[ReplayConfig | LocalConfig | APIConfig, Field(discriminator="kind")]


class BudgetConfig(Section):
    """What the run may spend on teachers in all, earlier runs in the same folder included. It stops before more is spent."""

    # US dollars; no limit if unset
    usd: Positive | None = None
    # requests; no limit if unset
    calls: Count | None = None
