"""Benchmarks that others have made, under every model of a run: academic tasks, preference sets, and how much of them was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.evals import contamination, open_llm, preference_runs
from zephyr.evals.open_llm import benchmarks
from zephyr.parts import Parts
from zephyr.recipe import DataSource, EvaluateConfig, TrainConfig

if TYPE_CHECKING:
    from zephyr.evals.preference_scores import Look
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

Data = Mapping[str, Sequence[DataSource]]
TASK = "benchmark "  # what the names of inputs begin with that are files of academic tasks


def named(config: EvaluateConfig) -> bool:
    """Whether there is any to measure on."""
    return bool(config.benchmarks or config.preferences)


def refuse_folders(config: EvaluateConfig) -> None:
    """Refuse academic tasks' files that are not there, and folders of several splits without the one that a task needs.

    Raises:
        UsageError: with the splits that there are.
    """
    for task, path in config.benchmarks.items():
        benchmarks.source(task, path, benchmarks.BENCHMARKS[task].item_split)
    for task, path in config.fewshot.items():
        benchmarks.source(task, path, benchmarks.BENCHMARKS[task].shot_split)


def files(config: EvaluateConfig) -> dict[str, list[DataSource]]:
    """The files of the academic tasks and of their few-shot examples, and the preference sets.

    Raises:
        UsageError: a task's file is not there, and it is not the task's name on the hub.
    """
    items = {f"{TASK}{task}": [benchmarks.source(task, path)] for task, path in config.benchmarks.items()}
    examples = {f"{TASK}{task} few-shot": [benchmarks.source(task, path)] for task, path in config.fewshot.items()}
    sets = config.preferences.sets if config.preferences else {}
    return {**items, **examples, **{f"preferences {name}": [source] for name, source in sets.items()}}


def plans(config: EvaluateConfig) -> list[open_llm.Plan]:
    """What academic tasks will ask, their rows read and checked.

    Raises:
        ZephyrError: as `open_llm.plans`.
    """
    items = {str(task): _path(path) for task, path in sorted(config.benchmarks.items())}
    fewshot = {str(task): _path(path) for task, path in config.fewshot.items()}
    return open_llm.plans(items, fewshot=fewshot, limit=config.limit, sampler=config.sampler)


class Public:
    """What will be asked, read and checked before any model is loaded: hours may lie between here and the first question."""

    def __init__(self, config: EvaluateConfig, data: Data, out: Draft) -> None:
        """Read it.

        Raises:
            ZephyrError: a file is not there, a row does not fit, or lm-eval is not the one whose prompts these are.
        """
        self._config, self._data = config, data
        self.planned = plans(config)
        self._given = preference_runs.read_all(config.preferences, config.limit)
        self._sets = preference_runs.Sets()
        self._each: dict[str, open_llm.Each] = {}  # by model
        for name, given in data.items():
            for source in given if name.startswith(TASK) else ():
                sources.note_unpinned(source, out)

    def fit(self, refs: Mapping[str, ModelRef], chats: Mapping[str, ChatFormat]) -> None:
        """Keep what every model can read.

        Args:
            refs: all models, the reference and the reward model of preference sets among them.
            chats: of those that are measured.

        Raises:
            DataError: nothing is left of a preference set.
        """
        self._reference = {name: (refs[name], _chat(refs[name])) for name in (preference_runs.REFERENCE,) if name in refs}
        formats = {**{name: chat for name, (_, chat) in self._reference.items()}, **chats}
        self._sets = preference_runs.fitted(self._config.preferences, self._given, refs, formats)

    def on_sets(self, name: str, model: Any, chat: ChatFormat, train: TrainConfig, out: Draft) -> dict[str, Look]:
        """What a model gives the answers of preference sets."""
        return preference_runs.looks(model, chat, self._sets, train, name, out)

    def on_tasks(self, name: str, model: Any, chat: ChatFormat, seed: int, out: Draft) -> dict[str, dict[str, Any]]:
        """A model's scores on academic tasks."""

        def keep(task: str, depends_on: Iterable[bytes]) -> Parts:
            return out.parts(f"{name}: {task}", depends_on)

        each = self._each.setdefault(name, {})
        files = out.path / "data" / "lm_eval" / name if self._config.log_samples else None
        return open_llm.evaluate(model, chat.tokenizer, self.planned, seed=seed, out=files, keep=keep, each=each) if self.planned else {}

    def results(self, looks: Mapping[str, Mapping[str, Any]], train: TrainConfig, beta: float, out: Draft) -> dict[str, Any]:
        """`benchmarks`, `preferences` and `contamination`, as far as there are any.

        Args:
            looks: by model, in the order in which they were trained, `benchmarks` and `sets`, of `on_tasks` and `on_sets`.
            train: how the reference is computed.
            beta: scales the implicit reward.
            out: takes the rows of preference sets, and what has to be known.
        """
        found: dict[str, Any] = {}
        if self.planned:
            found["benchmarks"] = {
                plan.name: {name: {**look["benchmarks"][plan.name], **self._against(plan.name, name)} for name, look in looks.items()}
                for plan in self.planned
            }
        if self._sets.given:
            from zephyr.models import load

            before = {
                name: self.on_sets(name, load.load_model(ref, chat), chat, train, out) for name, (ref, chat) in self._reference.items()
            }
            of_models = {**before, **{name: look["sets"] for name, look in looks.items()}}
            found["preferences"] = preference_runs.results(self._sets, of_models, beta, out)
        if found:
            texts = {**{plan.name: open_llm.texts_of(plan) for plan in self.planned}, **preference_runs.items(self._sets.given)}
            found["contamination"] = contamination.beside(self._data, texts, self._config.not_at_hand)
            contamination.note(found["contamination"], out)
        return found

    def _against(self, task: str, name: str) -> dict[str, Any]:
        """`against`: how far a model is from each that was measured before it, on the same items."""
        before = list(self._each)[: list(self._each).index(name)]
        gaps = {other: open_llm.difference(self._each[name][task], self._each[other][task], (name, other)) for other in before}
        return {"against": gaps} if gaps else {}


def _path(name: str) -> str:
    path = sources.resolve(name)
    return name if path is None else str(path)  # on the hub: whether it is the task's name there, its reader knows


def _chat(ref: ModelRef) -> ChatFormat:
    from zephyr.models import load

    return load.load_chat(ref, "tokenizer")
