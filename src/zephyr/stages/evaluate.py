"""What base, dSFT and dDPO model are worth on the test splits, and on academic tasks where their files are given."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.artifacts import Draft
from zephyr.recipe import DataSource, EvaluateConfig, Recipe, Section, TrainConfig
from zephyr.records import Dialogue, Message, Preference, RatedPrompt, Row, parse_dialogue, parse_preference, parse_rated_prompt, seeded_unit
from zephyr.stages import From, Inputs, Needs

if TYPE_CHECKING:
    from zephyr.evals.preference import Group
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

VERSION = 1
MODELS = ("base", "dsft", "ddpo")


class Config(Section):
    """Settings of this stage."""

    seed: int
    chat_template: str
    train: TrainConfig
    evaluate: EvaluateConfig
    beta: float
    score: str
    max_length: int
    max_prompt_length: int


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    assert recipe.evaluate is not None
    dpo = recipe.dpo
    return Config(
        seed=recipe.seed,
        chat_template=recipe.model.chat_template,
        train=recipe.train,
        evaluate=recipe.evaluate,
        beta=dpo.beta if dpo else 0.1,
        score=recipe.binarize.score if recipe.binarize else "mean",
        max_length=dpo.max_length if dpo else 1024,
        max_prompt_length=dpo.max_prompt_length if dpo else 512,
    )


def needs(recipe: Recipe) -> Needs:
    """The models there are, and the test rows of dialogues and of rated answers (or of pairs, where there are no ratings)."""
    assert recipe.evaluate is not None
    data: dict[str, From | Sequence[DataSource]] = {}
    if recipe.curate:
        data["dialogues"] = From("curate")
    if recipe.rate:
        data["ratings"] = From("rate")
    elif recipe.binarize:
        data["ratings"] = From("binarize")
    for name, path in {**recipe.evaluate.benchmarks, **{f"{k} few-shot": v for k, v in recipe.evaluate.fewshot.items()}}.items():
        data[f"benchmark {name}"] = [DataSource(path=path)]
    models: dict[str, Any] = {"base": recipe.model}
    if recipe.sft:
        models["dsft"] = From("sft")
    if recipe.dpo:
        models["ddpo"] = From("dpo")
    return Needs(data=data, models=models)


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Measure every model, one in memory at a time."""
    dialogues, groups = _encodable(_test_dialogues(inputs, out), _test_groups(inputs, config, out), inputs, config, out)
    asked = _pick(groups, config)
    names = [name for name in MODELS if name in inputs.models]
    looks = {name: _look(name, inputs.models[name], config, dialogues, groups, asked, out) for name in names}
    results: dict[str, Any] = {"models": names}
    if dialogues:
        results["nll"] = {name: look["nll"] for name, look in looks.items()}
    if groups:
        results.update(_preferences(groups, looks, config))
    if asked:
        results["lengths"] = {name: look["lengths"] for name, look in looks.items()}
        out.write_rows("samples", [_sample(group, i, looks) for i, group in enumerate(asked)])
    if config.evaluate.benchmarks:
        results["benchmarks"] = {
            task: {name: look["benchmarks"][task] for name, look in looks.items()} for task in sorted(config.evaluate.benchmarks)
        }
    out.manifest.results = results
    folder = out.path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(results, indent=1, sort_keys=True), encoding="utf-8")


# --- what is measured on ---------------------------------------------------------------------------------------


def _test_dialogues(inputs: Inputs, out: Draft) -> list[Dialogue]:
    if "dialogues" not in inputs.data:
        return []
    found = sources.collect(inputs.data["dialogues"], parse_dialogue, out, invalid="error", test_fraction=0.0)
    return [item.record for item in found["test"]]


def _parse_rated(row: Row) -> RatedPrompt | Preference:
    return parse_preference(row) if "chosen" in row else parse_rated_prompt(row)


def _test_groups(inputs: Inputs, config: Config, out: Draft) -> list[Group]:
    if "ratings" not in inputs.data:
        return []
    from zephyr.evals.preference import Group

    found = sources.collect(
        inputs.data["ratings"],
        _parse_rated,
        out,
        invalid="error",
        test_fraction=0.0,
        identity=lambda r: r.pair_id if isinstance(r, Preference) else r.prompt_id,
    )
    groups = []
    for item in found["test"]:
        record = item.record
        if isinstance(record, Preference):
            answers = [(record.chosen[-1]["content"], 1.0), (record.rejected[-1]["content"], 0.0)]
            context = record.chosen[:-1]
        else:
            context = ({"role": "user", "content": record.prompt},)
            answers = [(c.response, s) for c in record.completions if c.response.strip() and (s := _score(c.rating, config.score)) is not None]
        if len(answers) > 1:
            groups.append(Group(record.prompt_id, record.prompt, record.category, context, tuple(answers)))
    return groups


def _score(rating: Any, score: str) -> float | None:
    if rating is None:
        return None
    value = rating.mean if score == "mean" else rating.overall_score
    return None if value is None else float(value)


def _encodable(
    dialogues: list[Dialogue], groups: list[Group], inputs: Inputs, config: Config, out: Draft
) -> tuple[list[Dialogue], list[Group]]:
    """Without the rows that hold a control token of the tokenizer, for every model the same."""
    from zephyr.errors import DataError
    from zephyr.models import load
    from zephyr.train.encode import unencodable

    chat = load.load_chat(inputs.models["base"], config.chat_template)

    def fine(prompt_id: str, turns: Sequence[Message]) -> bool:
        try:
            chat.refuse_control_tokens(turns)
        except DataError as error:
            out.drop(unencodable(error), f"prompt {prompt_id[:16]}", {"messages": list(turns)})
            return False
        return True

    kept = [g for g in groups if fine(g.prompt_id, [*g.context, *(Message(role="assistant", content=text) for text, _ in g.answers)])]
    return [d for d in dialogues if fine(d.prompt_id, d.messages)], kept


def _pick(groups: Sequence[Group], config: Config) -> list[Group]:
    """The prompts to answer: one of every category in turn, in the order of a seeded hash."""
    by_category: dict[str, list[Group]] = defaultdict(list)
    for group in sorted(groups, key=lambda g: seeded_unit(config.seed, "sample", g.prompt_id)):
        by_category[group.category].append(group)
    rounds = [(i, category, group) for category, members in by_category.items() for i, group in enumerate(members)]
    return [group for _, _, group in sorted(rounds, key=lambda r: (r[0], r[1]))][: config.evaluate.samples]


# --- one model -------------------------------------------------------------------------------------------------


def _look(
    name: str, ref: ModelRef, config: Config, dialogues: Sequence[Dialogue], groups: Sequence[Group], asked: Sequence[Group], out: Draft
) -> dict[str, Any]:
    """Everything one model is measured on."""
    from zephyr.models import load

    # the base speaks its own template or ours, whichever suits it better; what we trained speaks what it was trained with
    ours = load.load_chat(ref, config.chat_template if name == "base" else "tokenizer")
    own = _own_template(ref) if name == "base" and config.chat_template != "tokenizer" else None
    model = load.load_model(ref)
    look: dict[str, Any] = {}
    speaks = ours
    if dialogues:
        look["nll"] = _nll(model, ours, dialogues, config, f"{name}: dialogues", out)
        look["nll"]["template"] = config.chat_template
        if own:
            other = _nll(model, own, dialogues, config, f"{name}: dialogues in its own template", out)
            other["template"] = "its own"
            if other["nll_per_token"] < look["nll"]["nll_per_token"]:
                look["nll"], other, speaks = other, look["nll"], own
            look["nll"]["other_template"] = {key: other[key] for key in ("template", "nll_per_token")}
    if groups:
        look["logps"], look["tokens"] = _answer_logps(model, ours, groups, config, f"{name}: answers", out)
    model.set_attn_implementation("sdpa")
    if asked:
        look["answers"] = _answers(model, speaks, asked, config, name)
        look["lengths"] = {
            "mean_tokens": sum(a.tokens for a in look["answers"]) / len(asked),
            "ended": sum(a.ended for a in look["answers"]) / len(asked),
            "answers": len(asked),
        }
    if config.evaluate.benchmarks:
        from zephyr.evals import open_llm

        look["benchmarks"] = open_llm.evaluate(
            model,
            ours.tokenizer,
            {k: str(sources.resolve(v)) for k, v in config.evaluate.benchmarks.items()},
            fewshot={k: str(sources.resolve(v)) for k, v in config.evaluate.fewshot.items()},
            limit=config.evaluate.limit,
            seed=config.seed,
        )
    return look


def _own_template(ref: ModelRef) -> ChatFormat | None:
    from zephyr.errors import ModelError
    from zephyr.models import load

    try:
        return load.load_chat(ref, "tokenizer")
    except ModelError:
        return None  # a base model often has none; then ours is all there is to compare


def _nll(model: Any, chat: ChatFormat, dialogues: Sequence[Dialogue], config: Config, label: str, out: Draft) -> dict[str, Any]:
    """Negative log-likelihood per learnt token, in nats, with an interval over dialogues."""
    from zephyr.evals.statistics import ratio
    from zephyr.train import score
    from zephyr.train.batches import Example

    examples = [Example(t.ids, t.learnt) for t in (chat.encode(d.messages) for d in dialogues)]
    sums = score.log_probabilities(model, examples, config.train, label, out)
    estimate = ratio([(-value, e.targets) for value, e in zip(sums, examples, strict=True)])
    assert estimate is not None
    return {"nll_per_token": estimate.value, "ci95": estimate.ci95, "tokens": estimate.items, "dialogues": estimate.groups}


def _answer_logps(
    model: Any, chat: ChatFormat, groups: Sequence[Group], config: Config, label: str, out: Draft
) -> tuple[list[list[float]], list[list[int]]]:
    """Log-probability and length in tokens of every answer of every group."""
    from zephyr.train import score
    from zephyr.train.encode import answer_example

    examples = []
    for group in groups:
        for text, _ in group.answers:
            prompt, completion = chat.encode_pair((*group.context, Message(role="assistant", content=text)))
            examples.append(answer_example(prompt[-config.max_prompt_length :], completion[: config.max_length]))
    sums = iter(score.log_probabilities(model, examples, config.train, label, out))
    lengths = iter(e.targets for e in examples)
    return [[next(sums) for _ in g.answers] for g in groups], [[next(lengths) for _ in g.answers] for g in groups]


def _answers(model: Any, chat: ChatFormat, asked: Sequence[Group], config: Config, label: str) -> list[Any]:
    from zephyr.models.generate import Generated, generate
    from zephyr.progress import bar

    e = config.evaluate
    found: dict[int, Generated] = {}
    with bar(f"{label}: samples", len(asked), "answers") as progress:
        for index, answer in generate(
            model,
            chat,
            [g.context for g in asked],
            names=[g.prompt_id for g in asked],
            max_new_tokens=e.max_new_tokens,
            temperature=e.temperature,
            top_p=e.top_p,
            seed=config.seed,
        ):
            found[index] = answer
            progress.advance()
    return [found[i] for i in range(len(asked))]


# --- all of them -----------------------------------------------------------------------------------------------


def _preferences(groups: Sequence[Group], looks: dict[str, dict[str, Any]], config: Config) -> dict[str, Any]:
    """Accuracy and margin of the implicit reward beta (log pi - log ref), each stage against the one before it."""
    from zephyr.evals.preference import accuracy, margin

    lengths = next(iter(looks.values()))["tokens"]
    values: dict[str, list[list[float]]] = {"length": [[float(n) for n in row] for row in lengths]}
    order = [name for name in MODELS if name in looks]
    for before, name in zip(order, order[1:], strict=False):
        values[name] = [
            [config.beta * (a - b) for a, b in zip(policy, reference, strict=True)]
            for policy, reference in zip(looks[name]["logps"], looks[before]["logps"], strict=True)
        ]
    accuracies: dict[str, Any] = {}
    margins: dict[str, Any] = {}
    for name, rows in values.items():
        won = accuracy(groups, rows)
        assert won is not None
        accuracies[name] = {"accuracy": won.value, "ci95": won.ci95, "pairs": won.items, "prompts": won.groups}
        if name != "length" and (gap := margin(groups, rows)):
            margins[name] = {"mean": gap.value, "ci95": gap.ci95}
    return {"reward_accuracy": accuracies, "reward_margin": margins}


def _sample(group: Group, index: int, looks: dict[str, dict[str, Any]]) -> Row:
    answers = {name: looks[name]["answers"][index].text if name in looks else None for name in MODELS}
    return {"prompt": group.prompt, "prompt_id": group.prompt_id, "category": group.category, **answers}
