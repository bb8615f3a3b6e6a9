"""Answers to chat benchmarks are judged, by a teacher or (IFEval) by a program; verdicts are kept in the originals' files, and scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.evals import contamination, hygiene, ifeval, judged, names
from zephyr.evals.alpaca_eval import asking
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.alpaca_eval import judging as alpaca_judging
from zephyr.evals.asks import CANARY, Ask
from zephyr.evals.mt_bench import files as mt_bench
from zephyr.evals.mt_bench import judging as mt_judging
from zephyr.evals.mt_bench import prompts
from zephyr.evals.mt_bench.records import Answer, Id, Question
from zephyr.progress import bar
from zephyr.recipe import BudgetConfig, DataSource, JudgeConfig, Recipe, Section
from zephyr.recipe.judging import Judge
from zephyr.records import Row
from zephyr.stages import From, Inputs, Needs, teacher_inputs, training_data
from zephyr.teachers import Reply, Request, ask

# 6: of IFEval's prompts the split that was chosen, where one was; own questions under MT-Bench's numbers keep their categories
VERSION = 6
TEACHER = "judge"
JUDGE_TOKENS = 2048  # as in the original
CONSTANT = hygiene.NULL_ANSWERS["posing as the verdict"]


class Config(Section):
    """Settings of this stage."""

    seed: int
    teacher: Judge | None
    single: bool
    compatible: bool
    reference_model: str | None
    against_model: str | None
    order: Literal["both", "seeded"]
    preference: Literal["words", "log_probabilities"]
    canary: bool
    limit: int | None
    judged: dict[str, str]  # what the models that answer are, or were made of
    taught: dict[str, str]  # the teachers of the run, by what they did
    not_at_hand: list[str]
    names: dict[str, str] = Field(exclude=True)  # what a model is called that nothing here has trained
    budget: BudgetConfig = Field(exclude=True)


def _section(recipe: Recipe) -> JudgeConfig:
    assert recipe.judge is not None
    return recipe.judge


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    mt, pairs = s.mt_bench, s.alpaca_eval
    by_choice = bool(pairs and pairs.preference == "log_probabilities")
    teachers = {place: t for place, t in recipe.teachers().items() if not place.startswith("judge.") and t.kind != "replay"}
    return Config(
        seed=recipe.seed,
        teacher=_judge(s.teacher) if s.teacher else None,
        single=bool(mt and mt.single),
        compatible=bool(mt and mt.compatible),
        reference_model=mt.reference_model if mt else None,
        against_model=mt.against_model if mt else None,
        order=pairs.order if pairs else "both",
        preference="log_probabilities" if by_choice else "words",
        canary=s.canary,
        limit=s.limit,
        judged={**_answering(recipe), **{name: endpoint.model for name, endpoint in s.endpoints.items()}},
        taught={place: t.model if t.kind == "api" else t.path for place, t in teachers.items()},
        not_at_hand=s.not_at_hand,
        names={} if recipe.sft or recipe.dpo else names.of_models({"base": recipe.model.path}, s.endpoints),
        budget=recipe.budget,
    )


def _answering(recipe: Recipe) -> dict[str, str]:
    """What the run's own models are made of; nothing where its endpoints alone answer (see the stage `answer`)."""
    s = _section(recipe)
    answers = bool(recipe.sft or recipe.dpo or not s.endpoints) if s.models is None else bool(s.models)
    return {"the run's": recipe.model.path} if answers else {}


def _judge(teacher: Any) -> Any:
    """The likeliest verdict, with room for its reasons, unless the recipe sets them."""
    wanted = {"temperature": 0.0, "max_new_tokens": JUDGE_TOKENS}
    return teacher.model_copy(update={name: value for name, value in wanted.items() if name not in teacher.model_fields_set})


def needs(recipe: Recipe) -> Needs:
    """The answers, the benchmarks' files, what the judge reads, and what was trained on."""
    s = _section(recipe)
    data, models = teacher_inputs("teacher", s.teacher) if s.teacher else ({}, {})
    files: dict[str, From | Sequence[DataSource]] = {"answers": From("answer"), **data, **training_data(recipe, s.trained_on)}
    if s.mt_bench:
        files["questions"] = [DataSource(path=s.mt_bench.questions)]
        files["references"] = [DataSource(path=s.mt_bench.references)]
        optional = {"prompts": s.mt_bench.prompts, "against": s.mt_bench.against}
        files |= {name: [DataSource(path=path)] for name, path in optional.items() if path}
    if s.alpaca_eval:
        files["baseline"] = [DataSource(path=s.alpaca_eval.baseline)]
    if s.ifeval:
        files["ifeval"] = [s.ifeval.prompts]
    return Needs(data=files, models=models)


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask for every verdict, write them down, and score them."""
    asked, questions = requests(config, inputs)
    replies = {asked[request]: reply for request, reply in _asked(config, inputs, asked, out).items()} if asked else {}
    data = out.path / "data"
    data.mkdir(exist_ok=True)
    results: Row = {"judge": _name(config) or None, "bill": out.manifest.results.get("bill", {})}
    results |= {"names": config.names} if config.names else {}
    results |= _mt_bench(config, inputs, questions, replies, data)
    if pairs := {what: reply for what, reply in replies.items() if isinstance(what, alpaca_judging.Pair)}:
        results["alpaca_eval"] = judged.alpaca_eval(pairs, _name(config), data, seed=config.seed)
        for model, scored in results["alpaca_eval"].items():
            if scored["win_rate"] is None:
                out.note(f"alpaca-eval: none of {scored['n_null']} comparisons of {model} has a verdict that could be read.")
    if "ifeval" in inputs.data:
        files = _models_in(Path(inputs.data["answers"][0].path) / "data", "ifeval.*.jsonl")
        results["ifeval"] = judged.ifeval(files, _prompts(config, inputs), data)
    results["canary"] = hygiene.canary_values(results) if config.canary and replies else None
    results |= hygiene.families(_name(config), config.judged, config.taught) if replies else {"self_preference": []}
    results |= {"served": served} if (served := hygiene.served(reply.served for reply in replies.values() if not reply.problem)) else {}
    results["warnings"] = hygiene.warnings(results)
    for text in [*results["warnings"], *results["self_preference"]]:
        out.note(text)
    results["contamination"] = contamination.beside(inputs.data, _items(config, inputs, questions), config.not_at_hand)
    contamination.note(results["contamination"], out)
    out.manifest.results = results
    out.manifest.rows_out = {"judgments": len(asked)}
    (data / "scores.json").write_text(json.dumps(results, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")


# --- what is asked ---------------------------------------------------------------------------------------------


def requests(config: Config, inputs: Inputs) -> tuple[dict[Request, Ask], dict[Id, Question]]:
    """What the judge is asked about the answers there are, and MT-Bench's questions.

    Raises:
        DataError: an answer or a reference is missing.
    """
    folder = Path(inputs.data["answers"][0].path) / "data"
    asks: list[Ask] = []
    questions: dict[Id, Question] = {}
    if "questions" in inputs.data:
        questions = dict(list(mt_bench.read_questions(_file(inputs, "questions")).items())[: config.limit])
        asks += _about_questions(config, inputs, folder, questions)
    if "baseline" in inputs.data:
        asks += _about_instructions(config, inputs, folder)
    return {_request(config, what): what for what in asks}, questions


def _request(config: Config, what: Ask) -> Request:
    request = Request("rate", what.name, what.messages, what.subject, what.model)
    if not (isinstance(what, alpaca_judging.Pair) and what.by_choice):
        return request
    # one token, and its probability as it is: some servers give it after the temperature
    told = config.teacher is not None and config.teacher.temperature is not None
    return replace(request, temperature=1.0 if told else None, max_new_tokens=1, top_logprobs=asking.TOP)


def _file(inputs: Inputs, name: str) -> Path:
    return Path(inputs.data[name][0].path).expanduser()


def _name(config: Config) -> str:
    """The judge, as every row names it; empty where none is asked."""
    teacher = config.teacher
    return "" if teacher is None else teacher.model if teacher.kind == "api" else Path(teacher.path).name


def _models_in(folder: Path, pattern: str) -> dict[str, Path]:
    """The files of answers, by model."""
    begin, end = pattern.split("*")
    found = {path.name.removeprefix(begin).removesuffix(end): path for path in sorted(folder.glob(pattern))}
    if not found:
        raise DataError(f"{folder}: no answers to this benchmark; `zephyr run RECIPE --only answer` asks for them")
    return found


def _answers(config: Config, folder: Path, questions: Mapping[Id, Question]) -> dict[str, mt_judging.Answers]:
    """By model, and the canary's among them.

    Raises:
        DataError: a model has not answered all questions.
    """
    found: dict[str, mt_judging.Answers] = {}
    for model, path in _models_in(folder, "mt_bench.*.jsonl").items():
        found[model] = mt_judging.complete(mt_bench.read_answers(path, model=model)[model], questions, path)
    if config.canary:
        found[CANARY] = {key: Answer(key, CANARY, (CONSTANT,) * len(q.turns)) for key, q in questions.items()}
    return found


def _baseline(
    config: Config, inputs: Inputs, judged: Mapping[str, Any], questions: Mapping[Id, Question]
) -> tuple[str, mt_judging.Answers]:
    """The answers that all others are judged beside, and what they are called."""
    path = _file(inputs, "against")
    name, answers = mt_judging.answers_of(path, config.against_model, "judge.mt_bench.against_model")
    return mt_judging.baseline_name(name, judged), mt_judging.complete(answers, questions, path)


def _about_questions(config: Config, inputs: Inputs, folder: Path, questions: Mapping[Id, Question]) -> list[Ask]:
    """MT-Bench: every turn of every answer by itself, and beside the baseline's.

    Raises:
        DataError: a model has not answered all questions, or a reference is missing.
    """
    _, references = mt_judging.answers_of(_file(inputs, "references"), config.reference_model, "judge.mt_bench.reference_model")
    templates = prompts.read_templates(_file(inputs, "prompts")) if "prompts" in inputs.data else prompts.builtin()
    answers = _answers(config, folder, questions)
    found: list[Ask] = []
    if config.single:
        found += mt_judging.turns(answers, questions, templates, references, config.seed)
    if "against" in inputs.data:
        found += mt_judging.games(answers, _baseline(config, inputs, answers, questions), questions, templates, references, config.seed)
    return found


def _about_instructions(config: Config, inputs: Inputs, folder: Path) -> list[Ask]:
    """AlpacaEval: each answer in the orders in which it stands beside the baseline's.

    Raises:
        DataError: a model has not answered what the baseline has.
    """
    baseline = alpaca.read_outputs(_file(inputs, "baseline"))[: config.limit]
    outputs = {}
    for model, path in _models_in(folder, "alpaca_eval.*.json").items():
        outputs[model] = {o.instruction: o for o in alpaca.read_outputs(path, model=model)}
        if missing := [b.instruction for b in baseline if b.instruction not in outputs[model]]:
            none = f"{len(missing)} instructions have" if len(missing) > 1 else "1 instruction has"
            raise DataError(f"{path}: {none} no answer, the first is: {missing[0][:60]!r}")
    if config.canary:
        outputs[CANARY] = {b.instruction: alpaca.Output(b.instruction, CONSTANT, CANARY, b.dataset) for b in baseline}
    by_choice = config.preference == "log_probabilities"
    return list(alpaca_judging.pairs(outputs, baseline, config.order, by_choice=by_choice, seed=config.seed))


def _asked(config: Config, inputs: Inputs, asked: Mapping[Request, Ask], out: Draft) -> dict[Request, Reply]:
    """The judge's replies, in the order in which they were asked for."""
    assert config.teacher is not None
    digests = {TEACHER: inputs.models["teacher"].digest} if config.teacher.kind == "local" else {}
    replies = {}
    folder = out.final.parent
    with (
        ask.opened("judge", {TEACHER: config.teacher}, folder=folder, budget=config.budget, seed=config.seed, digests=digests) as teachers,
        bar("verdicts", len(asked), "calls") as progress,
    ):
        for _, reply in teachers.replies({TEACHER: list(asked)}):
            replies[reply.request] = reply
            out.manifest.tokens += reply.tokens
            progress.advance(text=teachers.status(len(asked) - len(replies)))
        out.manifest.results["bill"] = teachers.bill()
    if len(replies) < len(asked):
        raise DataError(f"the judge left {len(asked) - len(replies)} of {len(asked)} requests without a reply; run again")
    refused = [reply for reply in replies.values() if reply.is_refused or reply.is_lost]
    if refused:
        out.note(f"{len(refused)} requests could not be put to the judge or lost their answer (the first: {refused[0].problem}).")
    return {request: replies[request] for request in asked}


# --- what came of it -------------------------------------------------------------------------------------------


def _mt_bench(config: Config, inputs: Inputs, questions: Mapping[Id, Question], replies: Mapping[Ask, Reply], data: Path) -> Row:
    """`mt_bench` and `mt_bench_pairs`, as far as they were judged."""
    judge, compatible = _name(config), config.compatible
    found: Row = {}
    if turns := {what: reply for what, reply in replies.items() if isinstance(what, mt_judging.Turn)}:
        found["mt_bench"] = judged.mt_bench(turns, judge, questions, data, compatible=compatible, seed=config.seed)
    if games := {what: reply for what, reply in replies.items() if isinstance(what, mt_judging.Game)}:
        answers = _answers(config, Path(inputs.data["answers"][0].path) / "data", questions)
        name, theirs = _baseline(config, inputs, answers, questions)
        answers = {**answers, name: theirs}
        found["mt_bench_pairs"] = judged.mt_bench_pairs(games, judge, questions, answers, data, compatible=compatible)
    return found


def _prompts(config: Config, inputs: Inputs) -> list[ifeval.Item]:
    return ifeval.read_items(inputs.data["ifeval"][0])[: config.limit]


def _items(config: Config, inputs: Inputs, questions: Mapping[Id, Question]) -> dict[str, contamination.Items]:
    """What is looked for in training data."""
    found: dict[str, contamination.Items] = {"mt_bench": {str(key): q.turns for key, q in questions.items()}} if questions else {}
    if "baseline" in inputs.data:
        outputs = alpaca.read_outputs(_file(inputs, "baseline"))[: config.limit]
        found["alpaca_eval"] = {o.instruction: [o.instruction] for o in outputs}
    if "ifeval" in inputs.data:
        found["ifeval"] = {item.key: [item.prompt] for item in _prompts(config, inputs)}
    return found
