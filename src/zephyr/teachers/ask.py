"""The teachers of a stage, asked together: servers side by side, models of this process one after the other, recordings at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zephyr import hashes
from zephyr.recipe import APIConfig, BudgetConfig, LocalConfig, ReplayConfig
from zephyr.teachers import Reply, Request, journal, wire
from zephyr.teachers.journal import NANO, Journal, Sending, Settled

if TYPE_CHECKING:
    from zephyr.teachers.local import LocalModel

Config = ReplayConfig | LocalConfig | APIConfig


class Teachers(Protocol):
    """What a stage asks."""

    def replies(self, requests: Mapping[str, Sequence[Request]]) -> Generator[tuple[str, Reply]]:
        """(teacher, reply) to every request, in whatever order they get done."""

    def status(self, left: int) -> str:
        """How it goes, with so many replies to come: what is under way and what is spent; empty where nothing is paid or sent."""

    def bill(self) -> dict[str, dict[str, Any]]:
        """What the stage's requests came to so far, earlier runs in the same folder included; {} where nothing was asked."""


@contextmanager
def opened(
    stage: str, configs: Mapping[str, Config], *, folder: Path, budget: BudgetConfig, seed: int, digests: Mapping[str, str]
) -> Iterator[Teachers]:
    """The teachers of a stage, by name, ready to be asked.

    Args:
        stage: whose requests they are, in the bill.
        configs: each as the recipe says.
        folder: of the run; the journal lies there, and outlives the artifacts that are made of it.
        budget: of the run, in all.
        seed: of local samples.
        digests: of the models that are run here, by the teacher's name.

    Raises:
        ZephyrError: a key, a recording or the journal is not as it should be. Nothing was asked.
    """
    with ExitStack() as stack:
        kept = None
        if any(not isinstance(config, ReplayConfig) for config in configs.values()):
            kept = stack.enter_context(Journal(folder / journal.NAME, budget))
        teachers = _All(stage, configs, kept, budget, seed, digests)
        stack.callback(teachers.close)
        yield teachers


class _All:
    def __init__(
        self,
        stage: str,
        configs: Mapping[str, Config],
        kept: Journal | None,
        budget: BudgetConfig,
        seed: int,
        digests: Mapping[str, str],
    ) -> None:
        from zephyr.teachers.client import Client

        self._stage, self._configs, self._journal, self._seed, self._digests = stage, configs, kept, seed, digests
        servers = {name: config for name, config in configs.items() if isinstance(config, APIConfig)}
        self._client = Client(stage, servers, kept, budget, seed) if kept and servers else None
        self._spent_before = kept.totals().spent / NANO if kept else 0.0
        self._templates = {name: _template_of(config) for name, config in configs.items() if isinstance(config, LocalConfig)}
        self._held: LocalModel | None = None

    def replies(self, requests: Mapping[str, Sequence[Request]]) -> Generator[tuple[str, Reply]]:
        """(teacher, reply) to every request."""
        remote = {name: theirs for name, theirs in requests.items() if isinstance(self._configs[name], APIConfig)}
        if self._client and any(remote.values()):
            yield from self._client.replies(remote)
        for name, theirs in requests.items():
            config = self._configs[name]
            if isinstance(config, ReplayConfig):
                yield from ((name, reply) for reply in _recorded(name, config, theirs))
            elif isinstance(config, LocalConfig):
                yield from ((name, reply) for reply in self._thought(name, config, theirs))

    def _thought(self, name: str, config: LocalConfig, requests: Sequence[Request]) -> Iterator[Reply]:
        """Of a model in this process: what it answered before is kept too."""
        assert self._journal is not None
        model = f"{self._digests[name]} {self._templates[name]} seed {self._seed}"
        keys = {request: wire.key_of(name, f"{model} of {request.author}", config, request) for request in requests}
        kept = self._journal.kept(list(keys.values()))
        missing = []
        for request in requests:
            found = kept.get(keys[request])
            if found is not None and found.state == "answered":
                tokens = found.prompt_tokens + found.completion_tokens
                # the key holds the digest of the model, so that it is this one whatever the journal says
                yield Reply(
                    request, found.text, found.finish_reason, tokens, prompt_tokens=found.prompt_tokens, served=Path(config.path).name
                )
            else:
                missing.append(request)
        if not missing:
            return
        from zephyr.teachers.local import LocalTeacher

        for reply in LocalTeacher(name, config, self._seed, self._model_of(config)).answer(missing):
            if not reply.is_refused:  # that costs nothing to find out again
                sending = Sending(keys[reply.request], self._stage, name, config.path, reply.request.prompt_id, 0)
                answer_tokens = reply.tokens - reply.prompt_tokens
                settled = Settled(
                    sending, "answered", reply.text, reply.finish_reason, reply.prompt_tokens, answer_tokens, served=reply.served
                )
                self._journal.record(settled)
            yield reply

    def _model_of(self, config: LocalConfig) -> LocalModel:
        """One model at a time, held until another is asked: in a conversation the same one is asked at every turn."""
        from zephyr.teachers.local import LocalModel, which

        if self._held is None or self._held.which != which(config):
            self._held = None  # gone before the next one is loaded
            self._held = LocalModel.load(config)
        return self._held

    def close(self) -> None:
        """Send nothing more, hold nothing more."""
        self._held = None
        if self._client:
            self._client.close()

    def status(self, left: int) -> str:
        """What is under way, what is spent, and what it will come to at this rate."""
        if self._journal is None or self._client is None:
            return ""
        spent, client = self._journal.seen.spent / NANO, self._client
        if not spent or not client.answered:
            return f"{client.in_flight} under way"
        in_all = spent + (spent - self._spent_before) / client.answered * left
        return f"{client.in_flight} under way, ${spent:,.2f} spent, about ${in_all:,.2f} in all"

    def bill(self) -> dict[str, dict[str, Any]]:
        """What the stage's requests came to."""
        return self._journal.bill(self._stage) if self._journal else {}


def _template_of(config: LocalConfig) -> str:
    """A chat template as a request is known by it: of a file what it says, for it may be edited."""
    template = config.chat_template or "tokenizer"
    return template if template in ("zephyr", "tokenizer") else hashes.sha256_file(Path(template).expanduser())


def _recorded(name: str, config: ReplayConfig, requests: Sequence[Request]) -> Iterator[Reply]:
    if requests:
        from zephyr.teachers.replay import ReplayTeacher

        yield from ReplayTeacher(name, config.recordings()[0]).answer(requests)
