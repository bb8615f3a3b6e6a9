"""A teacher that is a model folder or hub name, run in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zephyr.errors import DataError
from zephyr.recipe import ModelConfig, TeacherConfig
from zephyr.teachers import Reply, Request


class LocalTeacher:
    """Answers in its own chat format, in batches."""

    def __init__(self, name: str, config: TeacherConfig, seed: int) -> None:
        """Loads the model at once: what is wrong with it is known before any answer is asked for."""
        from zephyr.models import load

        ref = load.refer(ModelConfig(path=config.path))
        self.name = name
        self._config, self._seed = config, seed
        self._chat = load.load_chat(ref, "tokenizer")
        self._model = load.load_model(ref, self._chat, attention="generation")

    def answer(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """A sampled reply to each request; the sample depends on the seed, the teacher's name and the request, as `generate` says.

        A request that the model's chat format cannot hold (it contains a control token, or the template refuses it)
        gets an empty reply with the finish reason `refused`.
        """
        from zephyr.models.generate import generate

        c = self._config
        possible = []
        for request in requests:
            try:
                self._chat.parts(request.messages, generation_prompt=True)
                possible.append(request)
            except DataError as error:
                yield Reply(request, "", "refused", 0, str(error))
        replies = generate(
            self._model,
            self._chat,
            [request.messages for request in possible],
            names=[f"{self.name}/{request.kind}/{request.prompt_id}/{request.author}/{request.subject}" for request in possible],
            max_new_tokens=c.max_new_tokens,
            temperature=c.temperature,
            top_p=c.top_p,
            seed=self._seed,
        )
        for index, generated in replies:
            yield Reply(
                possible[index], generated.text, "stop" if generated.ended else "length", generated.prompt_tokens + generated.tokens
            )
