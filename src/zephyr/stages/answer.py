"""Models answer the questions of chat benchmarks; what they say is kept in the originals' own files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.evals import plain_files
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.ifeval import Item, read_items
from zephyr.evals.mt_bench import files as mt_bench
from zephyr.evals.mt_bench.records import TEMPERATURES, Answer, Id, Question
from zephyr.progress import bar
from zephyr.recipe import APIConfig, BudgetConfig, DataSource, JudgeConfig, LocalConfig, ModelConfig, Recipe, Section
from zephyr.records import Message, prompt_id_of
from zephyr.stages import From, Inputs, Needs, template_file
from zephyr.teachers import Reply, Request, ask

VERSION = 2  # 2: of IFEval's prompts the split that was chosen, where one was
# the model; (turn, id) of MT-Bench's questions, the instruction of AlpacaEval's, ("ifeval", key) of IFEval's prompts
Key = tuple[str, Any]
DEFAULT_TEMPERATURE = 0.7  # of a category that is none of MT-Bench's: FastChat's default


class Config(Section):
    """Settings of this stage."""

    seed: int
    chat_template: str
    models: list[str]
    endpoints: dict[str, APIConfig]
    mt_bench_tokens: int | None
    alpaca_eval_tokens: int | None
    alpaca_eval_temperature: float
    ifeval_tokens: int | None
    ifeval_temperature: float
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
        chat_template=recipe.model.chat_template,
        models=list(models_of(recipe)),
        endpoints=s.endpoints,
        mt_bench_tokens=s.mt_bench.max_new_tokens if s.mt_bench else None,
        alpaca_eval_tokens=s.alpaca_eval.max_new_tokens if s.alpaca_eval else None,
        alpaca_eval_temperature=s.alpaca_eval.temperature if s.alpaca_eval else 0.0,
        ifeval_tokens=s.ifeval.max_new_tokens if s.ifeval else None,
        ifeval_temperature=s.ifeval.temperature if s.ifeval else 0.0,
        limit=s.limit,
        budget=recipe.budget,
    )


def needs(recipe: Recipe) -> Needs:
    """The models, and the questions."""
    s = _section(recipe)
    data = template_file(recipe.model.chat_template) if "base" in models_of(recipe) else {}
    if s.mt_bench:
        data["questions"] = [DataSource(path=s.mt_bench.questions)]
    if s.alpaca_eval:
        data["baseline"] = [DataSource(path=s.alpaca_eval.baseline)]
    if s.ifeval:
        data["ifeval"] = [s.ifeval.prompts]
    return Needs(data=data, models=models_of(recipe))


def teachers_of(config: Config, inputs: Inputs) -> dict[str, LocalConfig | APIConfig]:
    """Who answers: the run's models as they are referred to, the base in the recipe's chat format, and the endpoints."""
    found: dict[str, LocalConfig | APIConfig] = {}
    for name in config.models:
        ref = inputs.models[name]
        found[name] = LocalConfig(
            kind="local",
            path=ref.name,
            revision=ref.revision,
            trust_remote_code=ref.trust_remote_code,
            chat_template=config.chat_template if name == "base" else None,
        )
    return {**found, **config.endpoints}


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask every model every question; second turns after the first have come back.

    Raises:
        DataError: a question that cannot be asked, or answers that did not come.
    """
    given = read(inputs.data, config.limit)
    for source in inputs.data.get("ifeval", ()):
        sources.note_unpinned(source, out)
    models = teachers_of(config, inputs)
    keys: dict[Request, Key] = {}
    replies: dict[Key, Reply] = {}
    total = given.asked * len(models)
    digests = {name: inputs.models[name].digest for name in config.models}
    folder = out.final.parent
    with (
        ask.opened("answer", models, folder=folder, budget=config.budget, seed=config.seed, digests=digests) as teachers,
        bar("answers", total, "answers") as progress,
    ):
        for turn in range(1, 1 + max((len(q.turns) for q in given.questions.values()), default=1)):
            asked = {name: list(requests(config, name, turn, given, replies)) for name in models}
            keys |= {request: key for theirs in asked.values() for key, request in theirs}
            for _, reply in teachers.replies({name: [request for _, request in theirs] for name, theirs in asked.items()}):
                replies[keys[reply.request]] = reply
                out.manifest.tokens += reply.tokens
                progress.advance(text=teachers.status(total - len(replies)))
            if missing := [key for key in keys.values() if key not in replies]:
                raise DataError(f"{len(missing)} of {len(keys)} answers are missing, the first is that of {missing[0][0]}; run again")
        bill = teachers.bill()
    _write(out, models, given, replies)
    out.manifest.results = {
        "models": list(models),
        "answers": {name: _counted([r for (model, _), r in replies.items() if model == name], out, name) for name in models},
        "bill": bill,
    }


def read_questions(path: Path, limit: int | None) -> dict[Id, Question]:
    """The first questions of a file.

    Raises:
        DataError: one has neither one turn nor two.
    """
    found = dict(list(mt_bench.read_questions(path).items())[:limit])
    if odd := [q for q in found.values() if len(q.turns) not in (1, 2)]:
        raise DataError(f"{path}: question {odd[0].question_id} has {len(odd[0].turns)} turns; one or two can be judged")
    return found


@dataclass(frozen=True)
class Asked:
    """What every model is asked: MT-Bench's questions, AlpacaEval's instructions (with the baseline's outputs), IFEval's prompts."""

    questions: Mapping[Id, Question] = field(default_factory=dict)
    baseline: Sequence[alpaca.Output] = ()
    items: Sequence[Item] = ()

    @property
    def asked(self) -> int:
        """How many answers that takes."""
        return sum(len(q.turns) for q in self.questions.values()) + len(self.baseline) + len(self.items)


def read(data: Mapping[str, Any], limit: int | None) -> Asked:
    """The files of the benchmarks, as `needs` names them; other inputs are passed over.

    Raises:
        DataError: a row that cannot be asked.
    """
    file = {name: Path(data[name][0].path).expanduser() for name in ("questions", "baseline") if name in data}
    return Asked(
        read_questions(file["questions"], limit) if "questions" in file else {},
        alpaca.read_outputs(file["baseline"])[:limit] if "baseline" in file else [],
        read_items(data["ifeval"][0])[:limit] if "ifeval" in data else [],
    )


def requests(config: Config, model: str, turn: int, given: Asked, replies: Mapping[Key, Reply]) -> Iterator[tuple[Key, Request]]:
    """What a model is asked in a turn, on the answers there are; an endpoint that sets a temperature or a limit keeps it."""
    endpoint = config.endpoints.get(model)
    own = endpoint.model_fields_set if endpoint else set()

    def sampling(temperature: float, tokens: int | None) -> dict[str, Any]:
        wanted = {"temperature": temperature, "max_new_tokens": tokens}
        return {name: value for name, value in wanted.items() if name not in own}

    for key, question in given.questions.items():
        if turn > len(question.turns):
            continue
        before: tuple[Message, ...] = ()
        if turn > 1:
            earlier = replies[model, (turn - 1, key)]
            before = (*earlier.request.messages, {"role": "assistant", "content": earlier.text})
        messages: tuple[Message, ...] = (*before, {"role": "user", "content": question.turns[turn - 1]})
        temperature = TEMPERATURES.get(question.category, DEFAULT_TEMPERATURE)
        named = Request("complete", f"mt-bench {key}", messages, author=model, sample=turn - 1)
        yield (model, (turn, key)), replace(named, **sampling(temperature, config.mt_bench_tokens))
    for output in given.baseline if turn == 1 else ():
        named = Request(
            "complete",
            f"alpaca-eval {prompt_id_of(output.instruction)[:16]}",
            ({"role": "user", "content": output.instruction},),
            author=model,
        )
        yield (model, output.instruction), replace(named, **sampling(config.alpaca_eval_temperature, config.alpaca_eval_tokens))
    for item in given.items if turn == 1 else ():
        named = Request("complete", f"ifeval {item.key}", item.messages, author=model)
        yield (model, ("ifeval", item.key)), replace(named, **sampling(config.ifeval_temperature, config.ifeval_tokens))


def _write(out: Draft, models: Iterable[str], given: Asked, replies: Mapping[Key, Reply]) -> None:
    """FastChat's model_answer files, AlpacaEval's model_outputs and IFEval's responses, a file for each model.

    They bear no times: equal work gives equal files.
    """
    folder = out.path / "data"
    folder.mkdir(exist_ok=True)
    for model in models:
        if given.questions:
            answers = [
                Answer(key, model, tuple(replies[model, (i + 1, key)].text for i in range(len(q.turns))))
                for key, q in given.questions.items()
            ]
            mt_bench.write(folder / f"mt_bench.{model}.jsonl", answers)
        if given.baseline:
            outputs = [alpaca.Output(o.instruction, replies[model, o.instruction].text, model, o.dataset) for o in given.baseline]
            alpaca.write_outputs(folder / f"alpaca_eval.{model}.json", outputs)
        if given.items:
            said = ({"key": i.key, "prompt": i.prompt, "response": replies[model, ("ifeval", i.key)].text} for i in given.items)
            plain_files.write_lines(folder / f"ifeval.{model}.jsonl", said)
    out.manifest.rows_out = {"mt_bench": len(given.questions), "alpaca_eval": len(given.baseline), "ifeval": len(given.items)}


def _counted(replies: Sequence[Reply], out: Draft, model: str) -> dict[str, int]:
    """How a model's answers ended; what is no answer is said."""
    empty = sum(not reply.text.strip() for reply in replies)
    problems = [reply for reply in replies if reply.is_refused or reply.is_lost]
    if problems:
        none = f"{len(problems)} questions have" if len(problems) > 1 else "1 question has"
        out.note(f"{none} no answer of {model} (the first: {problems[0].problem}); the judge sees an empty one.")
    elif empty:
        many = f"{empty} answers of {model} are empty; the judge sees them so."
        out.note(many if empty > 1 else f"1 answer of {model} is empty; the judge sees it so.")
    return {"answers": len(replies), "empty": empty, "cut_off": sum(reply.finish_reason == "length" for reply in replies)}
