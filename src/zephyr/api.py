"""What the commands do, for Python.

    import zephyr
    result = zephyr.run("recipes/demo.yaml", ["sft.epochs=2"], out="runs/two")
    result["scores"]["reward_accuracy"]["ddpo"]["ci95"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from zephyr import artifacts, pipeline
from zephyr.artifacts import Manifest
from zephyr.errors import UsageError
from zephyr.recipe import (
    BinarizeConfig,
    CompleteConfig,
    DataSource,
    DPOConfig,
    EvaluateConfig,
    ModelConfig,
    RateConfig,
    Recipe,
    SFTConfig,
    TrainConfig,
    apply_overrides,
    build,
    load,
)

Result = dict[str, Any]


def init(path: Path) -> Path:
    """Write the demo's recipe, with its comments, to `path`; an existing file is not touched."""
    if path.exists():
        raise UsageError(f"{path}: is there already; give another name")
    text = (resources.files("zephyr") / "demo" / "recipe.yaml").read_text(encoding="utf-8")
    artifacts.write_text(path, text)
    return path


def run(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    only: str | None = None,
    until: str | None = None,
    dry_run: bool = False,
    verify: bool = False,
) -> Result:
    """Take a recipe through its stages, as `zephyr run` does.

    Args:
        recipe: a YAML file, or a `Recipe`.
        overrides: settings as `section.key=value`; with a file only.
        out: the folder of the run; by default the recipe's `out`, or `runs/NAME`.
        only: run this stage alone.
        until: run up to this stage.
        dry_run: say what would run and why; do nothing.
        verify: hash finished files again before they are believed.

    Returns:
        Where every artifact is and what became of it, the model, the report, and the scores.

    Raises:
        ZephyrError: what, where, and what to do. What was finished before is kept.
    """
    if isinstance(recipe, Recipe):
        if overrides:
            raise UsageError("overrides go with a recipe file; build the Recipe with the values you want")
    else:
        recipe = load(recipe, overrides)
    run_dir = pipeline.out_of(recipe, out)
    if dry_run:
        outcomes = pipeline.plan(recipe, run_dir)
    else:
        outcomes = pipeline.run(recipe, run_dir, only=only, until=until, verify=verify)
    return pipeline.summary(recipe, run_dir, outcomes)


def stage(
    name: str,
    section: str,
    inputs: Mapping[str, Sequence[str]],
    out: Path,
    *,
    test: Sequence[str] | None = None,
    model: str | None = None,
    chat_template: str = "tokenizer",
    recipe: Path | None = None,
    seed: int = 0,
) -> Result:
    """Run one stage on plain files.

    Args:
        name: the stage.
        section: the recipe section whose settings it takes.
        inputs: files by the stage's name for them; `key=value` among them are settings.
        out: the artifact to write.
        test: files of the test split, of the first input.
        model: the model, for stages that take one.
        chat_template: `zephyr`, `tokenizer` or a Jinja file.
        recipe: a recipe whose section is the starting point.
        seed: decides orders and samples.
    """
    main_input = next(iter(inputs))
    files = [f for f in inputs[main_input] if not _is_setting(f)]
    settings = [f for f in inputs[main_input] if _is_setting(f)]
    if not files:
        raise UsageError(f"{name}: no input was given")
    data = {key: [DataSource(path=p) for p in (files if key == main_input else paths)] for key, paths in inputs.items()}
    if test:
        data[main_input] = [DataSource(path=p, split="train") for p in files] + [DataSource(path=p, split="test") for p in test]
    whole = _recipe_for(section, settings, data[main_input], recipe, model or ".", chat_template, seed)
    module = pipeline.module_of(name)
    config = module.configure(whole)
    if "chat_template" in type(config).model_fields:
        config = config.model_copy(update={"chat_template": chat_template})
    needs = module.needs(whole)
    data = {key: data.get(key, found) for key, found in needs.data.items()}
    models = {key: ModelConfig(path=_require(model, name)) for key in needs.models}
    return _run_single(pipeline.single(name, config, data, models, out))


def _is_setting(text: str) -> bool:
    return "=" in text and not Path(text).exists()


def _require(model: str | None, name: str) -> str:
    if model is None:
        raise UsageError(f"{name}: needs --model")
    return model


def _recipe_for(
    section: str, settings: Sequence[str], data: Sequence[DataSource], recipe: Path | None, model: str, chat_template: str, seed: int
) -> Recipe:
    """A recipe with the one section that a single stage needs."""
    base = load(recipe) if recipe else None
    configs = {"sft": SFTConfig, "complete": CompleteConfig, "rate": RateConfig, "binarize": BinarizeConfig, "dpo": DPOConfig}
    found = getattr(base, section, None) if base else None
    if recipe and found is None:
        raise UsageError(f"{recipe}: has no section `{section}`")
    values = found.model_dump() if found is not None else {}
    train = base.train.model_dump() if base else {}
    for setting in settings:
        target = train if setting.startswith("train.") else values
        apply_overrides(target, [setting.removeprefix("train.")], {})
    if section in ("curate", "rate", "binarize"):
        values["data"] = [d.model_dump() for d in data]
    if section == "complete":
        values["prompts"] = [d.model_dump() for d in data]
    lists = [d.model_dump() for d in data]
    rest: dict[str, Any] = {}
    if section == "sft":
        rest["curate"] = {"data": lists}
    if section == "dpo":
        rest["binarize"] = {"data": lists}
    del configs
    whole = {
        "name": section,
        "seed": seed,
        "model": {"path": model, "chat_template": chat_template},
        "train": train,
        **rest,
        section: values,
    }
    return build(Recipe, whole, {}, "command line")


def _run_single(work: pipeline.Work) -> Result:
    with pipeline.locked(work.out.parent), pipeline.sigterm_interrupts():
        outcome = pipeline.run_one(work)
    manifest = Manifest.read(work.out)
    assert manifest is not None
    return {
        "stage": work.stage,
        "path": str(work.out),
        "status": outcome.status,
        "rows_in": manifest.rows_in,
        "rows": manifest.rows_out,
        "dropped": manifest.dropped,
        "notes": manifest.notes,
        "results": manifest.results,
        "seconds": manifest.seconds,
    }


def evaluate(
    out: Path,
    models: Mapping[str, str | None],
    *,
    dialogues: Sequence[str],
    ratings: Sequence[str],
    settings: Sequence[str] = (),
    chat_template: str = "zephyr",
    seed: int = 0,
) -> Result:
    """Measure models on plain files, all of whose rows that name no split count as test rows."""
    from zephyr.stages import evaluate as module

    values = apply_overrides({}, list(settings), {})
    train = values.pop("train", {})
    section = build(EvaluateConfig, values, {}, "command line")
    config = module.Config(
        seed=seed,
        chat_template=chat_template,
        train=build(TrainConfig, train, {}, "command line"),
        evaluate=section,
        beta=0.1,
        score="mean",
        max_length=1024,
        max_prompt_length=512,
    )
    given = {"dialogues": dialogues, "ratings": ratings}
    data = {name: [DataSource(path=p, split="test") for p in paths] for name, paths in given.items() if paths}
    for name, path in {**section.benchmarks, **{f"{k} few-shot": v for k, v in section.fewshot.items()}}.items():
        data[f"benchmark {name}"] = [DataSource(path=path)]
    if not data:
        raise UsageError("evaluate: nothing to measure on; give --dialogues, --ratings, or benchmarks.TASK=FILE")
    found = {name: ModelConfig(path=path) for name, path in models.items() if path}
    return _run_single(pipeline.single("evaluate", config, data, found, out))


def report(run_dir: Path, out: Path, title: str | None = None) -> Result:
    """Write the page and the model card of a run's artifacts."""
    from zephyr.stages import report as module

    there = {name: [DataSource(path=str(run_dir / name))] for name in module.ORDER if Manifest.read(run_dir / name)}
    if not there:
        raise UsageError(f"{run_dir}: no artifact of a run is there")
    name = run_dir.resolve().name
    return _run_single(pipeline.single("report", module.Config(name=name, title=title or name), there, {}, out))


def describe(result: Result) -> str:
    """A result in words."""
    if "artifacts" not in result:
        lines = [f"{result['stage']}: {result['status']}, {result['path']}"]
        lines += [f"  {split}: {n} rows" for split, n in result["rows"].items()]
        lines += [f"  dropped, {reason}: {n}" for reason, n in result["dropped"].items()]
        lines += [f"  {note}" for note in result["notes"]]
        return "\n".join(lines)
    lines = [f"{name:10} {a['status']:9} {a['reason']}" for name, a in result["artifacts"].items()]
    lines += _scores(result["scores"] or {})
    lines += [f"{what}: {result[what]}" for what in ("model", "report") if result[what]]
    return "\n".join(lines)


def _scores(scores: Mapping[str, Any]) -> list[str]:
    lines = []
    for model, nll in scores.get("nll", {}).items():
        lines.append(f"test NLL per token, {model}: {nll['nll_per_token']:.4f} ({nll['template']} template)")
    for name, a in scores.get("reward_accuracy", {}).items():
        low, high = a["ci95"]
        lines.append(f"test reward accuracy, {name}: {a['accuracy']:.3f} [{low:.3f}, {high:.3f}] over {a['pairs']} pairs of {a['prompts']} prompts")
    for task, by_model in scores.get("benchmarks", {}).items():
        lines.append(f"{task}: " + ", ".join(f"{m} {r['value']:.4f}" for m, r in by_model.items()))
    return lines
