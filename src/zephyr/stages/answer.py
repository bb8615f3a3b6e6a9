"""Models answer the questions of chat benchmarks; what they say is kept in the originals' own files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.mt_bench import files as mt_bench
from zephyr.evals.mt_bench.records import TEMPERATURES, Answer, Id, Question
from zephyr.progress import bar
from zephyr.recipe import APIConfig, BudgetConfig, DataSource, JudgeConfig, LocalConfig, ModelConfig, Recipe, Section
from zephyr.records import Message, prompt_id_of
from zephyr.stages import From, Inputs, Needs
from zephyr.teachers import Reply, Request, ask

VERSION = 1
DEFAULT_TEMPERATURE = 0.7  # of a category that is none of MT-Bench's: FastChat's default


class Config(Section):
    """Settings of this stage."""

    seed: int
    models: list[str]
    endpoints: dict[str, APIConfig]
    mt_bench_tokens: int | None
    alpaca_eval_tokens: int | None
    alpaca_eval_temperature: float
    limit: int | None
    budget: BudgetConfig = Field(exclude=True)


def _section(recipe: Recipe) -> JudgeConfig:
    assert recipe.judge is not None
    return recipe.judge


def models_of(recipe: Recipe) -> dict[str, From | ModelConfig]:
    """The models of the run that answer, by name: those that were asked for, or those that are trained."""
    there: dict[str, From | ModelConfig] = {"base": recipe.model}
    there |= {"dsft": From("sft")} if recipe.sft else {}
    there |= {"ddpo": From("dpo")} if recipe.dpo else {}
    wanted = _section(recipe).models
    if wanted is None:
        wanted = [name for name in ("dsft", "ddpo") if name in there] or (["base"] if not _section(recipe).endpoints else [])
    return {name: there[name] for name in wanted}


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(
        seed=recipe.seed,
        models=list(models_of(recipe)),
        endpoints=s.endpoints,
        mt_bench_tokens=s.mt_bench.max_new_tokens if s.mt_bench else None,
        alpaca_eval_tokens=s.alpaca_eval.max_new_tokens if s.alpaca_eval else None,
        alpaca_eval_temperature=s.alpaca_eval.temperature if s.alpaca_eval else 0.0,
        limit=s.limit,
        budget=recipe.budget,
    )


def needs(recipe: Recipe) -> Needs:
    """The models, and the questions."""
    s = _section(recipe)
    data = {}
    if s.mt_bench:
        data["questions"] = [DataSource(path=s.mt_bench.questions)]
    if s.alpaca_eval:
        data["baseline"] = [DataSource(path=s.alpaca_eval.baseline)]
    return Needs(data=data, models=models_of(recipe))


class _Asked:
    """Who is asked, under a name for each temperature, since a teacher has one."""

    def __init__(self, config: Config, inputs: Inputs) -> None:
        self._config, self._inputs = config, inputs
        self.names = [*config.models, *config.endpoints]
        self.teachers: dict[str, LocalConfig | APIConfig] = {}

    def under(self, model: str, temperature: float, tokens: int) -> str:
        """The teacher that is a model at a temperature."""
        name = f"{model} at {temperature:g}, {tokens} tokens"
        if name not in self.teachers:
            if endpoint := self._config.endpoints.get(model):
                self.teachers[name] = endpoint.model_copy(update={"temperature": temperature, "max_new_tokens": tokens})
            else:
                path = self._inputs.models[model].name
                self.teachers[name] = LocalConfig(kind="local", path=path, temperature=temperature, max_new_tokens=tokens)
        return name

    def digests(self) -> dict[str, str]:
        """Of the models that are run here, by the teacher's name."""
        return {name: self._inputs.models[name.split(" at ")[0]].digest for name, t in self.teachers.items() if t.kind == "local"}


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask every model every question; second turns after the first have come back."""
    questions = _limited(mt_bench.read_questions(_file(inputs, "questions")), config.limit) if config.mt_bench_tokens else {}
    baseline = alpaca.read_outputs(_file(inputs, "baseline"))[: config.limit] if config.alpaca_eval_tokens else []
    asked = _Asked(config, inputs)
    first: dict[str, list[Request]] = {}
    keys: dict[Request, tuple[str, Any]] = {}
    for model in asked.names:
        for key, request in _first_turns(model, questions, baseline):
            tokens = config.mt_bench_tokens if isinstance(key, tuple) else config.alpaca_eval_tokens
            assert tokens is not None
            heat = _temperature(questions[key[1]]) if isinstance(key, tuple) else config.alpaca_eval_temperature
            first.setdefault(asked.under(model, heat, tokens), []).append(request)
            keys[request] = model, key
    replies: dict[tuple[str, Any], Reply] = {}
    total = len(keys) + sum(max(0, len(q.turns) - 1) for q in questions.values()) * len(asked.names)
    folder = out.final.parent
    with (
        ask.opened("answer", asked.teachers, folder=folder, budget=config.budget, seed=config.seed, digests=asked.digests()) as teachers,
        bar("answers", total, "answers") as progress,
    ):
        requests, turn = first, 1
        while requests:
            for _, reply in teachers.replies(requests):
                replies[keys[reply.request]] = reply
                out.manifest.tokens += reply.tokens
                progress.advance(text=teachers.status(total - len(replies)))
            turn += 1
            requests = {}
            for model in asked.names:
                for key, request in _next_turns(model, questions, turn, replies):
                    assert config.mt_bench_tokens is not None
                    name = asked.under(model, _temperature(questions[key[1]]), config.mt_bench_tokens)
                    requests.setdefault(name, []).append(request)
                    keys[request] = model, key
        bill = teachers.bill()
    if missing := [key for key in keys.values() if key not in replies]:
        raise DataError(f"{len(missing)} of {len(keys)} answers are missing, the first is that of {missing[0][0]}; run again")
    _write(out, asked.names, questions, baseline, replies)
    out.manifest.results = {
        "models": asked.names,
        "answers": {name: _counted([r for (model, _), r in replies.items() if model == name], out, name) for name in asked.names},
        "paths": {**{name: inputs.models[name].name for name in config.models}, **{n: e.model for n, e in config.endpoints.items()}},
        "bill": bill,
    }


def _file(inputs: Inputs, name: str) -> Path:
    return Path(inputs.data[name][0].path).expanduser()


def _limited(questions: Mapping[Id, Question], limit: int | None) -> dict[Id, Question]:
    return dict(list(questions.items())[:limit])


def _temperature(question: Question) -> float:
    return TEMPERATURES.get(question.category, DEFAULT_TEMPERATURE)


def _first_turns(model: str, questions: Mapping[Id, Question], baseline: Sequence[alpaca.Output]) -> Iterator[tuple[Any, Request]]:
    """(key, request): (turn, id) of MT-Bench's questions, the instruction of AlpacaEval's."""
    for key, question in questions.items():
        yield (1, key), Request("complete", f"mt-bench {key}", ({"role": "user", "content": question.turns[0]},), author=model)
    for output in baseline:
        messages: tuple[Message, ...] = ({"role": "user", "content": output.instruction},)
        yield output.instruction, Request("complete", f"alpaca-eval {prompt_id_of(output.instruction)[:16]}", messages, author=model)


def _next_turns(
    model: str, questions: Mapping[Id, Question], turn: int, replies: Mapping[tuple[str, Any], Reply]
) -> Iterator[tuple[Any, Request]]:
    """What follows on the answers there are."""
    for key, question in questions.items():
        if turn > len(question.turns):
            continue
        before = replies[model, (turn - 1, key)]
        messages: tuple[Message, ...] = (
            *before.request.messages,
            {"role": "assistant", "content": before.text},
            {"role": "user", "content": question.turns[turn - 1]},
        )
        yield (turn, key), Request("complete", f"mt-bench {key}", messages, author=model, sample=turn - 1)


def _write(
    out: Draft,
    models: Iterable[str],
    questions: Mapping[Id, Question],
    baseline: Sequence[alpaca.Output],
    replies: Mapping[tuple[str, Any], Reply],
) -> None:
    """FastChat's model_answer files and AlpacaEval's model_outputs, a file for each model; without times: equal work gives equal files."""
    folder = out.path / "data"
    folder.mkdir(exist_ok=True)
    for model in models:
        if questions:
            answers = [
                Answer(key, model, tuple(replies[model, (i + 1, key)].text for i in range(len(q.turns)))) for key, q in questions.items()
            ]
            mt_bench.write(folder / f"mt_bench.{model}.jsonl", answers)
        if baseline:
            outputs = [alpaca.Output(o.instruction, replies[model, o.instruction].text, model, o.dataset) for o in baseline]
            alpaca.write_outputs(folder / f"alpaca_eval.{model}.json", outputs)
    out.manifest.rows_out = {"mt_bench": len(questions), "alpaca_eval": len(baseline)}


def _counted(replies: Sequence[Reply], out: Draft, model: str) -> dict[str, int]:
    """How a model's answers ended; what is no answer is said."""
    empty = sum(not reply.text.strip() for reply in replies)
    problems = [reply for reply in replies if reply.finish_reason in ("refused", "unknown")]
    if problems:
        out.note(f"{len(problems)} questions have no answer of {model} (the first: {problems[0].problem}); the judge sees an empty one.")
    elif empty:
        out.note(f"{empty} answers of {model} are empty; the judge sees them so.")
    return {"answers": len(replies), "empty": empty, "cut_off": sum(reply.finish_reason == "length" for reply in replies)}
