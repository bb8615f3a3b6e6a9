"""What the commands do, for Python.

import zephyr
result = zephyr.run("recipes/demo.yaml", ["sft.epochs=2"], out="runs/two")
result["scores"]["reward_accuracy"]["ddpo"]["ci95"]
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, ParamSpec

from zephyr import artifacts, pipeline, world
from zephyr.artifacts import Manifest
from zephyr.errors import UsageError, ZephyrError
from zephyr.guards import sigterm_interrupts
from zephyr.recipe import (
    BinarizeConfig,
    DataSource,
    DPOConfig,
    EvaluateConfig,
    ModelConfig,
    Recipe,
    SFTConfig,
    TrainConfig,
    apply_overrides,
    build,
    load,
)
from zephyr.stages import From, Inputs, Needs, template_file

Result = dict[str, Any]
# what `zephyr evaluate MODEL --on` takes, and the settings that say how
BENCHMARKS = {"mt-bench": "mt_bench", "alpaca-eval": "alpaca_eval", "open-llm": "benchmarks"}
P = ParamSpec("P")


def _led(do: Callable[P, Result]) -> Callable[P, Result]:
    """Where several processes were started (`torchrun`), the first does it; the others take part, and return or raise the same."""

    @functools.wraps(do)
    def led(*args: P.args, **kwargs: P.kwargs) -> Result:
        here = world.started()
        if not here.leads:
            found: Result = pipeline.follow()
            return found
        try:
            result = do(*args, **kwargs)
        except (ZephyrError, KeyboardInterrupt) as error:
            if world.in_step():  # else the others have it from the stage itself, or do not listen
                world.order(error)
            raise
        world.order(result)
        return result

    return led


def init(path: Path) -> Path:
    """Write the demo's recipe, with its comments, to `path`; an existing file is not touched."""
    if path.exists():
        raise UsageError(f"{path}: is there already; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = (resources.files("zephyr") / "demo" / "recipe.yaml").read_text(encoding="utf-8")
    artifacts.write_text(path, text)
    return path


@_led
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
        outcomes = pipeline.plan(recipe, run_dir, only=only, until=until, verify=verify)
    else:
        outcomes = pipeline.run(recipe, run_dir, only=only, until=until, verify=verify)
    return pipeline.summary(recipe, run_dir, outcomes)


def plan(
    recipe: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    devices: Sequence[int] = (),
    gpus: Sequence[str] = (),
    utilization: float | None = None,
    calibrate: bool = False,
) -> Result:
    """What a run will ask of paid teachers, and what its training will take. Nothing is written or sent.

    Args:
        recipe: a YAML file, or a `Recipe`.
        overrides: settings as `section.key=value`; with a file only.
        out: the folder of the run, whose journal and artifacts say what is there already.
        devices: numbers of GPUs to plan for; 1, 8 and 16 if none is given.
        gpus: names of `zephyr.estimate.machines.KNOWN`; all if none is given.
        utilization: the share of a GPU's peak that is reached.
        calibrate: measure a few real steps on this machine.

    Returns:
        `lines` (calls, tokens, money of each teacher), their sums, what is spent so far, and the budget; `training` (None where
        nothing is trained): parameters, and for each stage tokens, operations, and by GPU and number bytes by kind and hours.
    """
    from zephyr import spending
    from zephyr.estimate import machines, training

    recipe = recipe if isinstance(recipe, Recipe) else load(recipe, overrides)
    run_dir = pipeline.out_of(recipe, out)
    found = spending.plan(recipe, run_dir)
    trains = training.plan(
        recipe,
        run_dir,
        devices=devices or training.DEVICES,
        gpus=gpus,
        utilization=machines.UTILIZATION if utilization is None else utilization,
        calibrate=calibrate,
    )
    return {**found, "training": trains}


@_led
def stage(
    name: str,
    section: str,
    inputs: Mapping[str, Sequence[str]],
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    test: Sequence[str] | None = None,
    model: str | None = None,
    chat_template: str = "tokenizer",
    recipe: str | Path | None = None,
    seed: int | None = None,
    against: Sequence[str] = (),
    dry_run: bool = False,
) -> Result:
    """Run one stage on plain files.

    Args:
        name: the stage.
        section: the recipe section whose settings it takes.
        inputs: files by the stage's name for them.
        out: the artifact to write.
        settings: of the section as `key=value`, of the training as `train.key=value`.
        test: files of the test split, of the first input.
        model: the model, for stages that take one.
        chat_template: `zephyr`, `tokenizer` or a Jinja file.
        recipe: a recipe whose section, training settings and seed are the starting point.
        seed: decides orders and samples; by default the recipe's, or 0.
        against: benchmarks whose prompts are left out, as files or `NAME=FILE`; beside those of the recipe.
        dry_run: curate alone: do it with a sample of the data, and keep nothing.
    """
    main_input = next(iter(inputs))
    if not inputs[main_input]:
        raise UsageError(f"{name}: no input was given")
    given = {key: [DataSource(path=path) for path in paths] for key, paths in inputs.items()}
    if test:
        train = [DataSource(path=path, split="train") for path in inputs[main_input]]
        given[main_input] = train + [DataSource(path=path, split="test") for path in test]
    base = load(recipe) if recipe else None
    if base and getattr(base, section) is None:
        raise UsageError(f"{recipe}: has no section `{section}`")
    whole = _recipe_for(base, section, settings, given[main_input], model, chat_template, seed, named_benchmarks(against))
    module = pipeline.module_of(name)
    wanted = module.needs(whole)
    if model is None and any(key in wanted.models for key in ("base", "policy")):
        raise UsageError(f"{name}: needs a model")
    needs = Needs({key: given.get(key, found) for key, found in wanted.data.items()}, wanted.models)
    out = Path(out).expanduser()
    if dry_run:
        return _sampled(name, module.configure(whole), needs, out)
    return _result(pipeline.run_single(name, module.configure(whole), needs, out.parent, out))


def _sampled(name: str, config: Any, needs: Needs, out: Path) -> Result:
    """What a stage makes of a sample of its data; nothing is kept."""
    module = pipeline.module_of(name)
    if not hasattr(module, "sample"):
        raise UsageError(f"{name}: there is no dry run of it")
    data: dict[str, Sequence[DataSource]] = {key: found for key, found in needs.data.items() if not isinstance(found, From)}
    with tempfile.TemporaryDirectory() as scratch, sigterm_interrupts():
        manifest = Manifest(stage=name, key="sample", config=config.model_dump(), parents={})
        draft = artifacts.Draft(Path(scratch) / "draft", Path(scratch) / "out", manifest)
        draft.path.mkdir()
        module.sample(config, Inputs(data, {}), draft)
        draft.seal(0.0)
    found = {"stage": name, "path": str(out), "status": "would run", "reason": "a sample of the data", "digest": ""}
    return {**found, **_counts(manifest)}


@_led
def synthesize(recipe: str | Path, out: str | Path, *, settings: Sequence[str] = (), seed: int | None = None) -> Result:
    """Have teachers write dialogues, as the `synthesize` section of a recipe says.

    Args:
        recipe: a YAML file with that section.
        out: the artifact to write; the journal lies beside it.
        settings: of the section as `key=value`.
        seed: decides draws and samples; by default the recipe's.
    """
    from zephyr.stages import synthesize as module

    found = load(recipe, [f"synthesize.{setting}" for setting in settings])
    if found.synthesize is None:
        raise UsageError(f"{recipe}: has no section `synthesize`")
    if seed is not None:
        found = found.model_copy(update={"seed": seed})
    out = Path(out).expanduser()
    return _result(pipeline.run_single("synthesize", module.configure(found), module.needs(found), out.parent, out))


def named_benchmarks(given: Sequence[str]) -> dict[str, str]:
    """Benchmarks by name: `NAME=FILE`, or a file, which is called by its own name."""
    named = {}
    for text in given:
        name, eq, path = text.partition("=")
        if not eq or Path(text).exists():
            name, path = Path(text).name.split(".")[0] or text, text
        if name in named:
            raise UsageError(f"--against {text}: a second benchmark called {name}; give one a name of its own, as NAME=FILE")
        named[name] = path
    return named


def _recipe_for(
    base: Recipe | None,
    section: str,
    settings: Sequence[str],
    data: Sequence[DataSource],
    model: str | None,
    chat_template: str,
    seed: int | None,
    against: Mapping[str, str],
) -> Recipe:
    """A recipe with the one section that a single stage needs, and the data that its neighbours would give it."""
    values = getattr(base, section).given() if base else {}  # what is not set must not seem to be
    train = base.train.given() if base else {}
    for setting in settings:
        apply_overrides(train if setting.startswith("train.") else values, [setting.removeprefix("train.")], {})
    rows = [source.given() for source in data]
    if section in ("curate", "rate", "binarize"):
        values["data"] = rows
    if section == "complete":
        values["prompts"] = rows
    neighbour = {"sft": "curate", "dpo": "binarize"}.get(section)
    whole = {
        "name": section,
        "seed": seed if seed is not None else base.seed if base else 0,
        "model": {"path": model or ".", "chat_template": chat_template},
        "train": train,
        "benchmarks": {**({name: source.given() for name, source in base.benchmarks.items()} if base else {}), **against},
        "budget": base.budget.given() if base else {},
        **({neighbour: {"data": rows}} if neighbour else {}),
        section: values,
    }
    return build(Recipe, whole, {}, "command line")


def _result(outcome: pipeline.Outcome) -> Result:
    manifest = Manifest.read(outcome.path)
    assert manifest is not None
    return {
        "stage": outcome.stage,
        "path": str(outcome.path),
        "status": outcome.status,
        "reason": outcome.reason,
        "digest": manifest.digest,
        **_counts(manifest),
    }


def _counts(manifest: Manifest) -> Result:
    return {
        "rows_in": manifest.rows_in,
        "rows": manifest.rows_out,
        "dropped": manifest.dropped,
        "notes": manifest.notes,
        "results": manifest.results,
        "seconds": manifest.seconds,
    }


@_led
def evaluate(
    out: str | Path,
    models: Mapping[str, str | None],
    *,
    dialogues: Sequence[str],
    ratings: Sequence[str],
    settings: Sequence[str] = (),
    chat_template: str = "zephyr",
    seed: int = 0,
) -> Result:
    """Measure models on plain files, all of whose rows that name no split count as test rows.

    Args:
        out: the artifact to write.
        models: `base`, `dsft`, `ddpo`; None for one there is not.
        dialogues: what the likelihood is measured on.
        ratings: rated answers, or pairs.
        settings: of `evaluate` as `key=value`; `train.KEY`, `sft.max_length`, `dpo.beta`, `binarize.score`… as in a recipe.
        chat_template: what the base model is made to speak.
        seed: decides the samples.
    """
    from zephyr.stages import evaluate as module

    values = apply_overrides({}, list(settings), {})
    train = build(TrainConfig, values.pop("train", {}), {}, "command line")
    sft = build(SFTConfig, values.pop("sft", {}), {}, "command line")
    dpo = build(DPOConfig, values.pop("dpo", {}), {}, "command line")
    binarize = build(BinarizeConfig, values.pop("binarize", {}), {}, "command line")
    section = build(EvaluateConfig, values, {}, "command line")
    config = module.config_of(seed, chat_template, train, section, sft, binarize, dpo)
    given = {"dialogues": dialogues, "ratings": ratings}
    data = {name: [DataSource(path=p, split="test") for p in paths] for name, paths in given.items() if paths}
    data.update(module.benchmark_files(section))
    if not data:
        raise UsageError("evaluate: nothing to measure on; give --dialogues, --ratings, or benchmarks.TASK=FILE")
    found = {name: ModelConfig(path=path) for name, path in models.items() if path}
    out = Path(out).expanduser()
    needs = Needs({**data, **template_file(chat_template)}, found)
    return _result(pipeline.run_single("evaluate", config, needs, out.parent, out))


@_led
def benchmark(
    model: str,
    on: Sequence[str],
    recipe: str | Path,
    out: str | Path,
    *,
    limit: int | None = None,
    settings: Sequence[str] = (),
) -> Result:
    """Measure one model on benchmarks whose files, judge and endpoints a recipe names; run again to go on, or to judge again.

    Args:
        model: a folder, an artifact or a hub name; it speaks its own chat template.
        on: `mt-bench`, `alpaca-eval` (of the section `judge`), `open-llm` (of `evaluate`).
        recipe: its sections `judge`, `evaluate` and `budget` are read.
        out: the folder of the answers, the judgments and the scores, an artifact each.
        limit: so many questions or items of each.
        settings: of the recipe, as `section.key=value`.

    Raises:
        UsageError: a benchmark that is not known, or that the recipe says nothing of.
    """
    given = load(recipe, settings)
    if unknown := sorted(set(on) - {*BENCHMARKS}):
        raise UsageError(f"--on {unknown[0]}: not a benchmark that is known here; known are {', '.join(BENCHMARKS)}")
    judge = given.judge.given() if given.judge else {}
    chat = {BENCHMARKS[name] for name in on} & {"mt_bench", "alpaca_eval"}
    if missing := sorted(name for name in chat if name not in judge):
        raise UsageError(f"{recipe}: has no judge.{missing[0]}, which says where its files are and who judges")
    if "open-llm" in on and not (given.evaluate and given.evaluate.benchmarks):
        raise UsageError(f"{recipe}: has no evaluate.benchmarks, which says where the items of the tasks are")
    whole: dict[str, Any] = {
        "name": "benchmark",
        "seed": given.seed,
        "model": {"path": model, "chat_template": "tokenizer"},
        "train": given.train.given(),
        "budget": given.budget.given(),
    }
    if chat:
        left_out = {"mt_bench", "alpaca_eval"} - chat
        whole["judge"] = {**{name: value for name, value in judge.items() if name not in left_out}, "models": ["base"]}
    if "open-llm" in on and given.evaluate:
        whole["evaluate"] = {**given.evaluate.given(), "samples": 0}
    for section in ("judge", "evaluate"):
        if limit is not None and section in whole:
            whole[section]["limit"] = limit
    one = build(Recipe, whole, {}, "command line")
    run_dir = Path(out).expanduser()
    outcomes = pipeline.run(one, run_dir, until=pipeline.stages_of(one)[-2])
    return pipeline.summary(one, run_dir, outcomes)


@_led
def report(run_dir: str | Path, out: str | Path, title: str | None = None) -> Result:
    """Write the page and the model card of a run's artifacts."""
    from zephyr.stages import report as module

    run_dir, out = Path(run_dir).expanduser(), Path(out).expanduser()
    there = {name: From(name, whole=True) for name in module.ORDER if Manifest.read(run_dir / name)}
    if not there:
        raise UsageError(f"{run_dir}: no artifact of a run is there")
    name = run_dir.resolve().name
    return _result(pipeline.run_single("report", module.Config(name=name, title=title or name), Needs(there), run_dir, out))


def describe(result: Result) -> str:
    """A result in words."""
    if "artifacts" not in result:
        lines = [f"{result['stage']}: {result['status']}, {result['path']}"]
        lines += [f"  {result['reason']}, {result['rows_in']:,} rows"] if result["status"] == pipeline.WOULD_RUN else []
        lines += [f"  {split}: {n} rows" for split, n in result["rows"].items()]
        lines += [f"  dropped, {reason}: {n}" for reason, n in result["dropped"].items()]
        lines += [f"  {note}" for note in result["notes"]]
        return "\n".join(lines)
    lines = [f"{name:10} {a['status']:9} {a['reason']}" for name, a in result["artifacts"].items()]
    lines += _scores(result["scores"] or {})
    lines += _judged(result["judged"] or {})
    lines += [f"{what}: {result[what]}" for what in ("model", "report") if result[what]]
    return "\n".join(lines)


def _judged(judged: Mapping[str, Any]) -> list[str]:
    """Scores of the chat benchmarks; what answers that say nothing got stands among them, as `canary`."""
    lines = []
    for name, key, unit in (("mt_bench", "score", "of 10"), ("alpaca_eval", "win_rate", "%")):
        for model, found in judged.get(name, {}).items():
            unread = found.get("n_unparsed", found.get("n_null"))
            if found[key] is None:
                lines.append(f"{name.replace('_', '-')}, {model}: none of {unread} verdicts could be read")
                continue
            interval = " [{:.2f}, {:.2f}]".format(*found["ci95"]) if found["ci95"] else " (no interval)"
            lines.append(
                f"{name.replace('_', '-')}, {model}: {found[key]:.2f} {unit}{interval}, judged by {judged['judge']}"
                + (f"; {unread} verdicts could not be read" if unread else "")
            )
    return lines


def _scores(scores: Mapping[str, Any]) -> list[str]:
    lines = []
    for model, nll in scores.get("nll", {}).items():
        lines.append(f"test NLL per token, {model}: {nll['nll_per_token']:.4f} ({nll['template']} template)")
    for name, a in scores.get("reward_accuracy", {}).items():
        interval = "[{:.3f}, {:.3f}]".format(*a["ci95"]) if a["ci95"] else "(no interval)"
        lines.append(f"test reward accuracy, {name}: {a['accuracy']:.3f} {interval} over {a['pairs']} pairs of {a['prompts']} prompts")
    for task, by_model in scores.get("benchmarks", {}).items():
        lines.append(f"{task}: " + ", ".join(f"{m} {r['value']:.4f}" for m, r in by_model.items()))
    return lines
