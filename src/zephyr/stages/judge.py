"""A teacher judges the answers to chat benchmarks; verdicts are kept in the originals' own files, and scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.evals import hygiene
from zephyr.evals.alpaca_eval import asking, preferences
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.alpaca_eval import scores as alpaca_scores
from zephyr.evals.mt_bench import files as mt_bench
from zephyr.evals.mt_bench import prompts, verdicts
from zephyr.evals.mt_bench import scores as mt_scores
from zephyr.evals.mt_bench.records import WITH_REFERENCE, Answer, Id, Judgment, Question
from zephyr.evals.statistics import Estimate, rate, share
from zephyr.progress import bar
from zephyr.recipe import BudgetConfig, DataSource, JudgeConfig, Recipe, Section
from zephyr.recipe.judging import Judge
from zephyr.records import Row
from zephyr.stages import From, Inputs, Needs, teacher_inputs
from zephyr.teachers import Reply, Request, ask

VERSION = 1
TEACHER = "judge"
JUDGE_TOKENS = 2048  # as in the original
CANARY = "canary"  # a model that gives the same answer to everything
CONSTANT = hygiene.NULL_ANSWERS["posing as the verdict"]


class Config(Section):
    """Settings of this stage."""

    seed: int
    teacher: Judge
    compatible: bool
    order: Literal["both", "seeded"]
    canary: bool
    limit: int | None
    judged: dict[str, str]  # what the models that answer are, or were made of
    budget: BudgetConfig = Field(exclude=True)


def _section(recipe: Recipe) -> JudgeConfig:
    assert recipe.judge is not None
    return recipe.judge


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    s = _section(recipe)
    return Config(
        seed=recipe.seed,
        teacher=_judge(s.teacher),
        compatible=bool(s.mt_bench and s.mt_bench.compatible),
        order=s.alpaca_eval.order if s.alpaca_eval else "both",
        canary=s.canary,
        limit=s.limit,
        judged={"the run's": recipe.model.path, **{name: endpoint.model for name, endpoint in s.endpoints.items()}},
        budget=recipe.budget,
    )


def _judge(teacher: Any) -> Any:
    """The likeliest verdict, with room for its reasons, unless the recipe sets them."""
    wanted = {"temperature": 0.0, "max_new_tokens": JUDGE_TOKENS}
    return teacher.model_copy(update={name: value for name, value in wanted.items() if name not in teacher.model_fields_set})


def needs(recipe: Recipe) -> Needs:
    """The answers, the benchmarks' files, and what the judge reads."""
    s = _section(recipe)
    data, models = teacher_inputs("teacher", s.teacher)
    files: dict[str, From | Sequence[DataSource]] = {"answers": From("answer"), **data}
    if s.mt_bench:
        files["questions"] = [DataSource(path=s.mt_bench.questions)]
        files["references"] = [DataSource(path=s.mt_bench.references)]
        if s.mt_bench.prompts:
            files["prompts"] = [DataSource(path=s.mt_bench.prompts)]
    if s.alpaca_eval:
        files["baseline"] = [DataSource(path=s.alpaca_eval.baseline)]
    return Needs(data=files, models=models)


@dataclass(frozen=True)
class Turn:
    """A turn of an MT-Bench answer that is to be judged."""

    model: str
    question: Question
    turn: int
    template: str


@dataclass(frozen=True)
class Pair:
    """An answer beside the baseline's, in one of the two orders."""

    model: str
    output: alpaca.Output
    baseline: alpaca.Output
    model_first: bool


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Ask for every verdict, write them down, and score them."""
    asked, questions = requests(config, inputs)
    replies = _asked(config, inputs, asked, out)
    data = out.path / "data"
    data.mkdir(exist_ok=True)
    results: Row = {"judge": _name(config), "bill": out.manifest.results.get("bill", {})}
    if questions:
        judgments = [_judgment(config, what, replies[r], r) for r, what in asked.items() if isinstance(what, Turn)]
        mt_bench.write(data / "mt_bench_judgments.jsonl", judgments)
        results["mt_bench"] = mt_scores.score(judgments, compatible=config.compatible, questions=questions, seed=config.seed)
    if "baseline" in inputs.data:
        pairs = {r: what for r, what in asked.items() if isinstance(what, Pair)}
        found = _annotations(config, pairs, replies)
        for model, annotations in found.items():
            alpaca.write(data / f"alpaca_eval.{model}.annotations.json", annotations)
        results["alpaca_eval"] = {model: _scored(annotations, config, out) for model, annotations in found.items()}
    results["canary"] = _canary(results, out) if config.canary else None
    _own_family(config, out)
    out.manifest.results = results
    out.manifest.rows_out = {"judgments": len(asked)}
    (data / "scores.json").write_text(json.dumps(results, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")


def requests(config: Config, inputs: Inputs) -> tuple[dict[Request, Turn | Pair], dict[Id, Question]]:
    """What the judge is asked about the answers there are, and MT-Bench's questions.

    Raises:
        DataError: an answer or a reference is missing.
    """
    folder = Path(inputs.data["answers"][0].path) / "data"
    asked: dict[Request, Turn | Pair] = {}
    questions: dict[Id, Question] = {}
    if "questions" in inputs.data:
        questions = dict(list(mt_bench.read_questions(_file(inputs, "questions")).items())[: config.limit])
        asked |= _turns(config, inputs, folder, questions)
    if "baseline" in inputs.data:
        asked |= _pairs(config, inputs, folder)
    return asked, questions


def _scored(annotations: Sequence[alpaca.Annotation], config: Config, out: Draft) -> Row:
    """The win rate and what it rests on; without a verdict there is none, and that is said."""
    if all(a.preference is None for a in annotations):
        out.note(f"alpaca-eval: none of {len(annotations)} comparisons of {annotations[0].generator_2} has a verdict that could be read.")
        return {"win_rate": None, "ci95": None, "n_total": 0, "n_null": len(annotations)}
    found = alpaca_scores.score(annotations, seed=config.seed)
    if config.order == "both":
        found["order"] = _order(annotations)
    return found


def _order(annotations: Sequence[alpaca.Annotation]) -> Row:
    """What the order of presentation did, of pairs that were judged in both: win rates by place, and how often the verdicts agree."""
    points: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    same = []
    for annotation in annotations:
        shown = {v["model_first"]: asking.preference(v["reply"]) for v in annotation.row["verdicts"]}
        won = {first: preferences.unswitched(s, model_first=first) - 1 for first, s in shown.items() if s is not None}
        for first, value in won.items():
            points[first].append((value, 1))
        if len(won) == 2:
            same.append((float(won[True] == won[False]), 1))
    rates = {first: rate(found) for first, found in points.items()}
    agree = share(same)
    return {
        "win_rate_shown_first": _percent(rates[True]),
        "win_rate_shown_first_ci95": _percent_ci(rates[True]),
        "win_rate_shown_second": _percent(rates[False]),
        "win_rate_shown_second_ci95": _percent_ci(rates[False]),
        "consistent": _percent(agree),
        "consistent_ci95": _percent_ci(agree),
        "n": len(same),
    }


def _percent(estimate: Estimate | None) -> float | None:
    return None if estimate is None else 100 * estimate.value


def _percent_ci(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None or estimate.ci95 is None else [100 * end for end in estimate.ci95]


def _file(inputs: Inputs, name: str) -> Path:
    return Path(inputs.data[name][0].path).expanduser()


def _name(config: Config) -> str:
    """The judge, as every row names it."""
    teacher = config.teacher
    return teacher.model if teacher.kind == "api" else Path(teacher.path).name


def _models_in(folder: Path, pattern: str) -> dict[str, Path]:
    """The files of answers, by model."""
    begin, end = pattern.split("*")
    found = {path.name.removeprefix(begin).removesuffix(end): path for path in sorted(folder.glob(pattern))}
    if not found:
        raise DataError(f"{folder}: no answers to this benchmark; run `zephyr answer` for it")
    return found


def _turns(config: Config, inputs: Inputs, folder: Path, questions: Mapping[Id, Question]) -> dict[Request, Turn | Pair]:
    """A request for each turn of each answer.

    Raises:
        DataError: a model has not answered all questions, or a reference is missing.
    """
    references = next(iter(mt_bench.read_answers(_file(inputs, "references")).values()))
    templates = prompts.read_templates(_file(inputs, "prompts")) if "prompts" in inputs.data else prompts.builtin()
    answers = {}
    for model, path in _models_in(folder, "mt_bench.*.jsonl").items():
        answers[model] = mt_bench.read_answers(path, model=model)[model]
        if lacking := [text for text in mt_bench.missing_answers(answers[model], dict(questions)) if "empty" not in text]:
            raise DataError(f"{path}: {lacking[0]}")
    if config.canary:
        answers[CANARY] = {key: Answer(key, CANARY, (CONSTANT,) * len(q.turns)) for key, q in questions.items()}
    found: dict[Request, Turn | Pair] = {}
    for model, given in answers.items():
        for key, question in questions.items():
            for turn in range(1, len(question.turns) + 1):
                template = prompts.choose(templates, pairs=False, category=question.category, turn=turn)
                reference = references.get(key) if question.category in WITH_REFERENCE else None
                messages = prompts.messages(template, question, [given[key]], reference=reference, seed=config.seed)
                request = Request("rate", f"mt-bench {key}", messages, f"turn {turn}", model)
                found[request] = Turn(model, question, turn, template.name)
    return found


def _pairs(config: Config, inputs: Inputs, folder: Path) -> dict[Request, Turn | Pair]:
    """A request for each answer and order in which it stands beside the baseline's.

    Raises:
        DataError: a model has not answered what the baseline has.
    """
    baseline = alpaca.read_outputs(_file(inputs, "baseline"))[: config.limit]
    outputs = {}
    for model, path in _models_in(folder, "alpaca_eval.*.json").items():
        outputs[model] = {o.instruction: o for o in alpaca.read_outputs(path, model=model)}
        if missing := [b.instruction for b in baseline if b.instruction not in outputs[model]]:
            raise DataError(f"{path}: {len(missing)} instructions have no answer, the first is: {missing[0][:60]!r}")
    if config.canary:
        outputs[CANARY] = {b.instruction: alpaca.Output(b.instruction, CONSTANT, CANARY, b.dataset) for b in baseline}
    found: dict[Request, Turn | Pair] = {}
    for model, given in outputs.items():
        for b in baseline:
            seeded = preferences.model_shown_first(b.instruction)
            for first in (True, False) if config.order == "both" else (seeded,):
                texts = given[b.instruction].output, b.output
                messages = asking.messages(b.instruction, *(texts if first else texts[::-1]), seed=config.seed)
                request = Request("rate", f"alpaca-eval {b.instruction[:40]}", messages, "first" if first else "second", model)
                found[request] = Pair(model, given[b.instruction], b, first)
    return found


def _asked(config: Config, inputs: Inputs, asked: Mapping[Request, Turn | Pair], out: Draft) -> dict[Request, Reply]:
    """The judge's replies."""
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
    refused = [reply for reply in replies.values() if reply.finish_reason in ("refused", "unknown")]
    if refused:
        out.note(f"{len(refused)} requests could not be put to the judge or lost their answer (the first: {refused[0].problem}).")
    return replies


def _said(reply: Reply) -> str:
    """What a judge says after having thought aloud; nothing of a reply that was cut off, whose last line is none."""
    if reply.finish_reason == "length":
        return ""
    if not reply.text.lstrip().startswith("<think>"):
        return reply.text
    return reply.text.partition("</think>")[2].strip()  # a thought without an end holds no verdict


def _judgment(config: Config, what: Turn, reply: Reply, request: Request) -> Judgment:
    """A row of FastChat's; the score is by our strict reading, -1 where there is none."""
    text = reply.text if config.compatible else _said(reply)
    score = verdicts.single_compatible(text) if config.compatible else verdicts.single(text).score
    return Judgment(
        where=f"mt_bench_judgments.jsonl: question {what.question.question_id}, turn {what.turn}",
        question_id=what.question.question_id,
        model=what.model,
        turn=what.turn,
        judge=(_name(config), what.template),
        user_prompt=request.messages[-1]["content"],
        judgment=text,
        score=-1 if score is None else score,
    )


def _annotations(config: Config, pairs: Mapping[Request, Pair], replies: Mapping[Request, Reply]) -> dict[str, list[alpaca.Annotation]]:
    """By model: AlpacaEval's rows. With both orders the preference is their mean, and null where one of them has no verdict."""
    games: dict[tuple[str, str], list[tuple[Pair, Reply]]] = {}
    for request, pair in pairs.items():
        games.setdefault((pair.model, pair.baseline.instruction), []).append((pair, replies[request]))
    found: dict[str, list[alpaca.Annotation]] = {}
    for (model, instruction), both in games.items():
        pair = both[0][0]
        shown = [asking.preference(_said(reply)) for _, reply in both]
        known = [preferences.unswitched(s, model_first=p.model_first) for s, (p, _) in zip(shown, both, strict=True) if s is not None]
        preference = sum(known) / len(known) if len(known) == len(both) else None
        row: Row = {
            **pair.baseline.row(),
            "output_1": pair.baseline.output,
            "generator_1": pair.baseline.generator,
            "output_2": pair.output.output,
            "generator_2": model,
            "annotator": f"{_name(config)}/{asking.NAME}",
            "preference": preference,
            "verdicts": [{"model_first": p.model_first, "reply": _said(reply)} for p, reply in both],
        }
        for key in ("output", "generator"):
            del row[key]
        texts = (instruction, pair.baseline.output, pair.output.output, pair.baseline.generator, model, row["annotator"])
        found.setdefault(model, []).append(alpaca.Annotation(f"{model}: {instruction[:40]!r}", *texts, preference, row))
    return found


def _canary(results: Mapping[str, Any], out: Draft) -> Row:
    """What the judge gave answers that do not depend on the question; of a judge who likes them a note says so."""
    found: Row = {}
    for name, key, lowest, highest in (("mt_bench", "score", 1.0, 10.0), ("alpaca_eval", "win_rate", 0.0, 100.0)):
        if (of := results.get(name, {}).get(CANARY)) is None:
            continue
        found[name] = of[key]
        if of[key] is not None:
            high = of["ci95"][1] if of["ci95"] else highest
            what = name.replace("_", "-")
            if said := hygiene.canary(of[key], lowest=lowest, highest=highest, high=high, what=what):
                out.note(said.text + ".")
    return found


def _own_family(config: Config, out: Draft) -> None:
    """Whether the judge judges models of its own family, where the names tell."""
    for finding in hygiene.self_preference(_name(config), {path: f"the judged model ({name})" for name, path in config.judged.items()}):
        if finding.name == "self-preference":
            out.note(finding.text + ".")
