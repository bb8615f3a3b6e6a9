"""What base, dSFT and dDPO model are worth on the test splits, and on academic tasks where their files are given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from zephyr.artifacts import Draft
from zephyr.errors import DataError, ModelError
from zephyr.recipe import BinarizeConfig, DataSource, DPOConfig, EvaluateConfig, Recipe, Section, SFTConfig, TrainConfig
from zephyr.records import Row
from zephyr.stages import From, Inputs, Needs, template_file, training_data

if TYPE_CHECKING:
    from zephyr.evals.preference import Group
    from zephyr.evals.public import Public
    from zephyr.evals.rows import Rows
    from zephyr.models.generate import Generated
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

# 6: a cut prompt keeps its BOS where the template writes it; what a turn says beside its role and content is refused
VERSION = 6
MODELS = ("base", "dsft", "ddpo")
NOT_SIMPOS = (
    "The reward accuracy and margin that evaluate measures are those of β (log π - log ref), as for every objective; simpo trained another "
    "reward, β × the mean log-probability per token, without a reference, and those in the log of its training are of that one."
)


class Config(Section):
    """Settings of this stage."""

    seed: int
    chat_template: str
    train: TrainConfig
    evaluate: EvaluateConfig
    objective: str
    beta: float
    score: str | dict[str, float]
    max_dialogue_length: int
    max_length: int
    max_prompt_length: int
    names: dict[str, str] = Field(default={}, exclude=True)  # what a model is called that nothing here has trained


def config_of(
    seed: int,
    chat_template: str,
    train: TrainConfig,
    evaluate: EvaluateConfig,
    sft: SFTConfig | None,
    binarize: BinarizeConfig | None,
    dpo: DPOConfig | None,
) -> Config:
    """Settings of this stage from the sections they come from; what the run does not have is as in the paper."""
    sft, binarize, dpo = sft or SFTConfig(), binarize or BinarizeConfig(), dpo or DPOConfig()
    return Config(
        seed=seed,
        chat_template=chat_template,
        train=train,
        evaluate=evaluate,
        objective=dpo.objective,
        beta=dpo.beta,
        score=binarize.ranked_by,
        max_dialogue_length=sft.max_length,
        max_length=dpo.max_length,
        max_prompt_length=dpo.max_prompt_length,
    )


def configure(recipe: Recipe) -> Config:
    """The settings of this stage in a recipe."""
    from zephyr.evals import names, preference_runs

    r = recipe
    assert r.evaluate is not None
    config = config_of(r.seed, r.model.chat_template, r.train, r.evaluate, r.sft, r.binarize, r.dpo)
    if r.sft or r.dpo:
        return config
    sets = r.evaluate.preferences
    paths = {"base": r.model.path, **({preference_runs.REFERENCE: sets.reference} if sets and sets.reference else {})}
    return config.model_copy(update={"names": names.of_models(paths)})


def needs(recipe: Recipe) -> Needs:
    """The models there are, and the test rows of dialogues and of rated answers (or of pairs, where there are no ratings)."""
    from zephyr.evals import preference_runs, public

    assert recipe.evaluate is not None
    data: dict[str, From | Sequence[DataSource]] = {**public.files(recipe.evaluate), **template_file(recipe.model.chat_template)}
    if public.named(recipe.evaluate):
        data.update(training_data(recipe, recipe.evaluate.trained_on))
    if recipe.curate:
        data["dialogues"] = From("curate")
    if recipe.rate:
        data["ratings"] = From("rate")
    elif recipe.binarize:
        data["ratings"] = From("binarize")
    models: dict[str, Any] = {"base": recipe.model, **preference_runs.models(recipe.evaluate.preferences)}
    if recipe.sft:
        models["dsft"] = From("sft")
    if recipe.dpo:
        models["ddpo"] = From("dpo")
    return Needs(data=data, models=models)


def run(config: Config, inputs: Inputs, out: Draft) -> None:
    """Measure every model, one in memory at a time.

    Raises:
        DataError: there is nothing left to measure on; or a row, or the items of an academic task, are not what they should be.
    """
    from zephyr.evals import items, rewards
    from zephyr.evals.public import Public
    from zephyr.models import load

    public = Public(config.evaluate, inputs.data, out)
    names = [name for name in MODELS if name in inputs.models]
    # the base speaks our template (and its own, where it has one); what we trained speaks what it was trained with
    chats = {name: load.load_chat(inputs.models[name], config.chat_template if name == "base" else "tokenizer") for name in names}
    results: dict[str, Any] = {"models": names, **({"names": config.names} if config.names else {})}
    rows = _rows(config, inputs, chats, results, out)
    _refuse_nothing(config, inputs, rows, out)
    public.fit(inputs.models, chats)
    looks = {name: _look(name, inputs.models[name], chats[name], rows, public, config, out) for name in names}
    each: list[Row] = []
    if rows.dialogues:
        each += [row for name, look in looks.items() for row in items.of_dialogues(name, rows.dialogues, look["nll"].pop("each"))]
        results["nll"] = {name: look["nll"] for name, look in looks.items()}
    if rows.has_order:
        found, of_prompts = rewards.of_models(rows.groups, {name: look["given"] for name, look in looks.items()}, config.beta)
        results.update(found)
        each += of_prompts
    if rows.asked:
        results["lengths"] = {name: look["lengths"] for name, look in looks.items()}
        for name, look in looks.items():
            each += items.of_tokens("length", name, rows.asked, [(answer.tokens, 1) for answer in look["answers"]])
        out.write_rows("samples", [_sample(group, i, looks) for i, group in enumerate(rows.asked)])
    results.update(public.results(looks, config.train, config.beta, out))
    if config.objective == "simpo" and "ddpo" in names and (rows.has_order or "preferences" in results):
        out.note(NOT_SIMPOS)
    if each:
        out.write_rows(items.SPLIT, each, items.schema())
    out.manifest.results = results
    folder = out.path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(results, indent=1, sort_keys=True, allow_nan=False), encoding="utf-8")


# --- what they are measured on -----------------------------------------------------------------------------------


def _rows(config: Config, inputs: Inputs, chats: dict[str, ChatFormat], results: dict[str, Any], out: Draft) -> Rows:
    """The test rows that every model can be measured on, without prompts that are in the train splits of the inputs.

    Whether there is such a split for every trained model is `results["unseen"]`.
    """
    from zephyr.evals.rows import Rows, answerable, dialogues_of, groups_of, readable, spread, unseen

    dialogues, groups = dialogues_of(inputs.data.get("dialogues", ()), out), groups_of(inputs.data.get("ratings", ()), config.score, out)
    splits = {name: given.train for name, given in (("dsft", dialogues), ("ddpo", groups)) if name in chats}
    if splits:
        results["unseen"] = all(splits.values())
    train = set().union(*splits.values())
    fitting = readable(unseen(dialogues.test, train, out), chats.values(), config.max_dialogue_length, out)
    kept = answerable(unseen(groups.test, train, out), chats.values(), config.max_length, config.max_prompt_length, out)
    return Rows(fitting, kept, asked=spread(kept, config.evaluate.samples, config.seed))


def _refuse_nothing(config: Config, inputs: Inputs, rows: Rows, out: Draft) -> None:
    """Say what was given and cannot be measured, and what may help.

    Raises:
        DataError: nothing can be measured at all.
    """
    from zephyr.evals.public import named

    unmeasured = []
    if inputs.data.get("dialogues") and not rows.dialogues:
        unmeasured.append(
            "The likelihood was not measured: no dialogue of the test split is left; keep some for it (curate.test_fraction, or a file "
            "with split: test), or raise sft.max_length if they are too long."
        )
    if inputs.data.get("ratings") and not rows.has_order:
        other, what = ("mean", "ratings of aspects") if config.score == "overall" else ("overall", "an overall_score")
        unmeasured.append(
            "The preferences were not measured: no prompt of the test split is left with two answers of different score; set "
            f"binarize.score={other} if the answers only have {what}, keep prompts for the test (test_fraction, or a file with split: "
            "test), or raise dpo.max_length if the answers are too long."
        )
    if not (rows.dialogues or rows.has_order or rows.asked or named(config.evaluate)):
        raise DataError(" ".join(["nothing is left to measure.", *unmeasured, "Or take `evaluate` out, where a recipe asks for it."]))
    for sentence in unmeasured:
        out.note(sentence)


# --- one model -------------------------------------------------------------------------------------------------


def _look(name: str, ref: ModelRef, ours: ChatFormat, rows: Rows, public: Public, config: Config, out: Draft) -> dict[str, Any]:
    """Everything one model is measured on."""
    from zephyr.evals import sharpness
    from zephyr.models import load

    model = load.load_model(ref, ours)
    look: dict[str, Any] = {}
    speaks = ours
    if rows.dialogues:
        look["nll"], speaks = _likelihood(name, model, ref, ours, rows, config, out)
    if rows.has_order:
        look["given"] = sharpness.of_groups(model, ours, rows.groups, config.train, config.max_prompt_length, f"{name}: answers", out)
    look["sets"] = public.on_sets(name, model, ours, config.train, out)
    load.ready_to_generate(model)
    if rows.asked:
        look["answers"] = _answers(model, speaks, rows.asked, config, name, out)
        look["lengths"] = _lengths(look["answers"], config.evaluate.max_new_tokens)
    look["benchmarks"] = public.on_tasks(name, model, ours, config.seed, out)
    return look


def _lengths(answers: Sequence[Generated], limit: int) -> dict[str, Any]:
    """How long sampled answers are, at most `limit` tokens, and the share of them that come to an end; each with its interval."""
    from zephyr.evals.statistics import ratio, share

    length, ended = ratio([(a.tokens, 1) for a in answers]), share([(float(a.ended), 1) for a in answers])
    assert length is not None and ended is not None
    if length.low == length.high:  # all are of one length: as shares of what they may have, they have an interval too
        of_limit = share([(a.tokens / limit, 1) for a in answers])
        assert of_limit is not None
        ends = of_limit.times(limit).ci95
    else:
        ends = length.ci95
    found = {"mean_tokens": length.value, "ci95": ends, "ended": ended.value, "ended_ci95": ended.ci95}
    return {**found, "answers": len(answers)}


def _likelihood(
    name: str, model: Any, ref: ModelRef, ours: ChatFormat, rows: Rows, config: Config, out: Draft
) -> tuple[dict[str, Any], ChatFormat]:
    """The likelihood of the dialogues, and the format in which it is the better: the base may prefer its own template to ours."""
    from zephyr.evals import likelihood

    def under(chat: ChatFormat, label: str) -> dict[str, Any]:
        return {**likelihood.of_dialogues(model, chat, rows.dialogues, config.train, label, out), "template": _name_of(chat, config)}

    found = under(ours, f"{name}: dialogues")
    own = _own_template(ref, ours, rows) if name == "base" and config.chat_template != "tokenizer" else None
    if own is None:
        return found, ours
    other = under(own, f"{name}: dialogues in its own template")
    better, worse, speaks = (other, found, own) if other["nll_per_token"] < found["nll_per_token"] else (found, other, ours)
    return {**better, "other_template": {key: worse[key] for key in ("template", "nll_per_token")}}, speaks


def _name_of(chat: ChatFormat, config: Config) -> str:
    """What a chat format is called: `zephyr`, the file that the recipe names, or else `its own`, the model's."""
    if chat.is_zephyr:
        return "zephyr"
    file = None if config.chat_template in ("zephyr", "tokenizer") else Path(config.chat_template).expanduser()
    return config.chat_template if file and chat.template == file.read_text(encoding="utf-8") else "its own"


def _own_template(ref: ModelRef, ours: ChatFormat, rows: Rows) -> ChatFormat | None:
    """The model's own template, if it has one that is not ours and can say these rows."""
    from zephyr.models import load

    try:
        own = load.load_chat(ref, "tokenizer")
        for messages in (*(d.messages for d in rows.dialogues), *(g.context for g in rows.asked)):
            own.parts(messages)
    except (ModelError, DataError):  # a base model often has none; some refuse a system turn
        return None
    return None if own.template == ours.template else own


def _answers(model: Any, chat: ChatFormat, asked: Sequence[Group], config: Config, label: str, out: Draft) -> list[Generated]:
    from zephyr.models.generate import generate
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
            keep=lambda _, depends_on: out.parts(f"{label}: samples", depends_on),
        ):
            found[index] = answer
            out.manifest.tokens += answer.prompt_tokens + answer.tokens
            progress.advance()
    return [found[i] for i in range(len(asked))]


def _sample(group: Group, index: int, looks: dict[str, dict[str, Any]]) -> Row:
    answers = {name: looks[name]["answers"][index].text if name in looks else None for name in MODELS}
    return {"prompt": group.prompt, "prompt_id": group.prompt_id, "category": group.category, **answers}
