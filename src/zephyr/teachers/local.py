"""A teacher that is a model folder or hub name, run in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.errors import DataError
from zephyr.recipe import LocalConfig, ModelConfig
from zephyr.teachers import Reply, Request

if TYPE_CHECKING:
    from zephyr.text.chat import ChatFormat


@dataclass(frozen=True)
class LocalModel:
    """A model in memory, and the chat format that it is asked in.

    Attributes:
        which: what of a teacher's settings it was loaded by; teachers that agree in it can share it.
    """

    which: tuple[Any, ...]
    model: Any
    chat: ChatFormat

    @staticmethod
    def load(config: LocalConfig) -> LocalModel:
        """The model of a teacher.

        Raises:
            ModelError: it cannot be loaded, or has no usable chat format.
        """
        from zephyr.models import load

        ref = load.refer(ModelConfig(path=config.path, revision=config.revision, trust_remote_code=config.trust_remote_code))
        chat = load.load_chat(ref, config.chat_template or "tokenizer", learns=False)
        return LocalModel(which(config), load.load_model(ref, chat, attention="generation"), chat)


def which(config: LocalConfig) -> tuple[Any, ...]:
    """The settings that say what is loaded; the others say how it is asked."""
    return config.path, config.revision, config.trust_remote_code, config.chat_template


class LocalTeacher:
    """Answers in its own chat format, in batches."""

    def __init__(self, name: str, config: LocalConfig, seed: int, loaded: LocalModel | None = None) -> None:
        """Loads the model at once, unless it is given: what is wrong with it is known before any answer is asked for."""
        loaded = loaded or LocalModel.load(config)
        self.name = name
        self._config, self._seed = config, seed
        self._chat, self._model = loaded.chat, loaded.model

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """A sampled reply to each request; the sample depends on the seed, the teacher's name and the request, as `generate` says.

        A request that the model's chat format cannot hold (it contains a control token, or the template refuses it), or
        that leaves no room for an answer in the model's context, gets an empty reply with the finish reason `refused`.
        """
        from zephyr.models.generate import generate

        c = self._config
        possible = []
        for request in requests:
            if problem := self._problem(request):
                yield Reply(request, "", "refused", 0, problem)
            else:
                possible.append(request)
        alike: dict[tuple[float, int], list[Request]] = {}
        for request in possible:
            temperature = c.temperature if request.temperature is None else request.temperature
            alike.setdefault((temperature, request.max_new_tokens or c.max_new_tokens), []).append(request)
        for (temperature, limit), theirs in alike.items():
            replies = generate(
                self._model,
                self._chat,
                [request.messages for request in theirs],
                names=[f"{self.name}/{request.kind}/{request.prompt_id}/{request.author}/{request.subject}" for request in theirs],
                max_new_tokens=limit,
                temperature=temperature,
                top_p=c.top_p,
                seed=self._seed,
            )
            for index, generated in replies:
                tokens, ended = generated.prompt_tokens + generated.tokens, "stop" if generated.ended else "length"
                yield Reply(theirs[index], generated.text, ended, tokens, prompt_tokens=generated.prompt_tokens, served=Path(c.path).name)

    def _problem(self, request: Request) -> str:
        """Why a request cannot be put to the model; nothing where it can."""
        from zephyr.models.generate import too_long

        try:
            prompt = self._chat.encode_prompt(request.messages)
        except DataError as error:
            return str(error)
        context = too_long(self._model, prompt)
        return "" if context is None else f"it has {len(prompt)} tokens, and the model reads {context} at most, the answer included"
