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
from zephyr.errors import ArtifactError, UsageError, ZephyrError
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
    known,
    load,
)
from zephyr.stages import From, Inputs, Needs, template_file

Result = dict[str, Any]
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
        against: benchmarks whose prompts are left out, as `zephyr.recipe.known.named` reads them; beside those of the recipe.
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
    whole = _recipe_for(base, section, settings, given[main_input], model, chat_template, seed, known.named(against))
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


def _recipe_for(
    base: Recipe | None,
    section: str,
    settings: Sequence[str],
    data: Sequence[DataSource],
    model: str | None,
    chat_template: str,
    seed: int | None,
    against: Mapping[str, Any],
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
    from zephyr.evals import preference_runs, public
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
    data.update(public.files(section))
    if not data:
        raise UsageError("evaluate: nothing to measure on; give --dialogues, --ratings, or benchmarks.TASK=FILE")
    data.update({"trained on": section.trained_on} if section.trained_on else {})
    found = {name: ModelConfig(path=path) for name, path in models.items() if path} | preference_runs.models(section.preferences)
    out = Path(out).expanduser()
    needs = Needs({**data, **template_file(chat_template)}, found)
    return _result(pipeline.run_single("evaluate", config, needs, out.parent, out))


@_led
def benchmark(
    model: str,
    on: Sequence[str],
    recipe: str | Path | None,
    out: str | Path,
    *,
    limit: int | None = None,
    settings: Sequence[str] = (),
    reference: str | None = None,
    reward_model: str | None = None,
    trained_on: Sequence[str] = (),
) -> Result:
    """Measure one model on benchmarks; run again to go on, or to judge again.

    Args:
        model: a folder, an artifact or a hub name; it speaks its own chat template.
        on: names of `recipe.benchmarking`, benchmarks and academic tasks, as `NAME` or `NAME=FILE`; `all`: all that the recipe names.
        recipe: its sections `judge`, `evaluate`, `train` and `budget` are read; needed where a teacher judges.
        out: the folder of the answers, the judgments and the scores, an artifact each.
        limit: so many questions or items of each.
        settings: of the recipe, as `section.key=value`.
        reference: the model that it was trained from, for preference sets.
        reward_model: a sequence classifier, which is measured on preference sets beside it.
        trained_on: files that it was trained on, in which the benchmarks are looked for, beside those that the recipe names and, of an
            artifact of ours, those that are known.

    Raises:
        UsageError: a benchmark that is not known, or of which nothing says where its files are or who judges.
    """
    from zephyr.recipe import benchmarking

    given = load(recipe, settings) if recipe else None
    found = benchmarking.sections(on, given, str(recipe))
    for section in found.values():
        section.update({} if limit is None else {"limit": limit})
    for name, path in (("reference", reference), ("reward_model", reward_model)):
        if path and "preferences" not in found.get("evaluate", {}):
            raise UsageError(f"--{name.replace('_', '-')}: is for preference sets; add preferences=FILE to --on")
        found.get("evaluate", {}).get("preferences", {}).update({name: path} if path else {})
    rest = {"seed": given.seed, "train": given.train.given(), "budget": given.budget.given()} if given else {}
    # academic tasks are asked without a chat template, and a base model may have none
    chats = "judge" in found or "preferences" in found.get("evaluate", {})
    whole = {"name": "benchmark", "model": {"path": model, "chat_template": "tokenizer" if chats else "zephyr"}, **rest, **found}
    one = build(Recipe, whole if given else apply_overrides(whole, list(settings), {}), {}, "command line")
    one = _with_training(one, given, model, trained_on)
    run_dir = Path(out).expanduser()
    outcomes = pipeline.run(one, run_dir, until=pipeline.stages_of(one)[-2])
    return pipeline.summary(one, run_dir, outcomes)


def _with_training(one: Recipe, given: Recipe | None, model: str, trained_on: Sequence[str]) -> Recipe:
    """The recipe of a measurement with all that the model was trained on: by the recipe, by the option, and by its own manifests."""
    from zephyr.evals import contamination

    said = [source for r in (given, one) if r for section in (r.judge, r.evaluate) if section for source in section.trained_on]
    known = contamination.known_training(model, [*said, *(DataSource(path=path) for path in trained_on)])
    sections = {
        name: section.model_copy(update={"trained_on": known.sources, "not_at_hand": [*section.not_at_hand, *known.lost]})
        for name, section in (("judge", one.judge), ("evaluate", one.evaluate))
        if section
    }
    return one.model_copy(update=sections)


@_led
def reproduce(
    what: str,
    overrides: Sequence[str] = (),
    *,
    preset: str = "demo",
    data: str | Path | None = None,
    model: str | None = None,
    seeds: int = 3,
    out: str | Path | None = None,
    scores: Sequence[str] = (),
    recipe: str | Path | None = None,
    dry_run: bool = False,
) -> Result:
    """Make experiments of the paper at some scale, and set its numbers beside ours; run again to go on.

    Args:
        what: `table3`, `figure3`, `samples`, `tables` (or `table1`, `table2`, `figure1`), `all`.
        overrides: settings of the preset, as `section.key=value`.
        preset: `demo`, `small`, `paper`.
        data: a folder of rows, for presets that take one.
        model: the base to start from; None for one made from nothing.
        seeds: trainings of each model.
        out: the folder; runs/reproduce-PRESET by default.
        scores: `NAME=PATH` of models that were measured elsewhere, for the tables.
        recipe: of the preset `paper`.
        dry_run: say which steps there are; make none.

    Returns:
        `results` by experiment, `findings` with verdict, sentence and comparison, `page`, `files`; or, of a dry run, `steps`.
    """
    from zephyr.reproduce.run import reproduce as do

    folders = [Path(path).expanduser() if path is not None else None for path in (data, out, recipe)]
    return do(
        what,
        preset_name=preset,
        overrides=overrides,
        data=folders[0],
        model=model,
        seeds=seeds,
        out=folders[1],
        scores=scores,
        recipe=folders[2],
        dry_run=dry_run,
    )


@_led
def report(run_dir: str | Path | Sequence[str | Path], out: str | Path, title: str | None = None) -> Result:
    """Write the page and the model card of a run's artifacts; of several runs, one page that sets them side by side.

    Args:
        run_dir: the folder of a run, or those of several; the others are set against the first.
        out: the artifact to write.
        title: of the page.

    Returns:
        As of a stage; of several runs, `results` is what the page shows (`zephyr.report.beside.found`).

    Raises:
        UsageError: a folder holds no artifact of a run; one is named twice, or more are than can be told apart by colour.
    """
    from zephyr.stages import report as module

    given = [run_dir] if isinstance(run_dir, str | Path) else run_dir
    folders, out = [Path(folder).expanduser() for folder in given], Path(out).expanduser()
    for folder in folders:
        if not any(Manifest.read(folder / name) for name in module.ORDER):
            raise UsageError(f"{folder}: no artifact of a run is there")
    if len(folders) > 1:
        return _result(pipeline.run_one(_side_by_side(folders, out, title)))
    there = {name: From(name, whole=True) for name in module.ORDER if Manifest.read(folders[0] / name)}
    name = folders[0].resolve().name
    return _result(pipeline.run_single("report", module.Config(name=name, title=title or name), Needs(there), folders[0], out))


def _side_by_side(folders: Sequence[Path], out: Path, title: str | None) -> pipeline.Work:
    """The work of setting runs side by side: its inputs are all their artifacts, counts and logs among them."""
    from zephyr.report import beside, plots
    from zephyr.stages import report as module

    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("report: a run is named twice; name each once")
    if len(folders) > plots.RUNS:
        raise UsageError(f"report: {len(folders)} runs; at most {plots.RUNS} fit side by side")
    if not out.name:
        raise UsageError(f"{out}: --out needs a folder with a name of its own")
    labels = module.labels_of(folders)
    paths = module.inputs_of(dict(zip(labels, folders, strict=True)))
    opened = {name: artifacts.Artifact.open(path) for name, path in paths.items()}
    for artifact in opened.values():
        if problem := artifact.check():
            raise ArtifactError(f"report: {problem}; run `zephyr run` again to make it anew")
    runs = {label: {name.removeprefix(f"{label}/"): a for name, a in opened.items() if name.startswith(f"{label}/")} for label in labels}
    about = {f"{stage}.{path}": _meaning(stage, path) for stage, path in beside.differing(runs, module.ORDER)}
    config = module.Config(name=" and ".join(labels), title=title or " beside ".join(labels), runs=labels, about=about)
    parents = {name: {"path": str(path), "digest": artifacts.sha256_file(path / artifacts.MANIFEST)} for name, path in paths.items()}
    key = artifacts.key_of("report", module.VERSION, config.model_dump(), {name: parent["digest"] for name, parent in parents.items()})
    inputs = Inputs({name: [DataSource(path=str(path))] for name, path in paths.items()}, {})
    return pipeline.Work("report", config, inputs, parents, out, key)


def _meaning(stage: str, path: str) -> str:
    """What a setting of a stage means, as the code that defines it says; "" where it says nothing."""
    from zephyr.recipes.meaning import meaning_of, sections_in

    kind: Any = pipeline.module_of(stage).Config
    *inner, last = path.split(".")
    for name in inner:
        field = kind.model_fields.get(name)
        kind = next(sections_in(field.annotation), None) if field else None
        if kind is None:
            return ""
    return meaning_of(kind, last) if last in kind.model_fields else ""


def trace(run_dir: str | Path, wanted: str) -> Result:
    """Follow one prompt of a run from the numbers that it went into back to the raw replies of the teachers. Nothing is written.

    Args:
        run_dir: the folder of a run.
        wanted: the id of a prompt, how it begins, or words of the prompt; or `mt-bench QUESTION`, `alpaca-eval NUMBER`.

    Returns:
        What `zephyr.stages.report.chain` has, or of a benchmark's question what `zephyr.report.verdicts.judged` has.

    Raises:
        UsageError: it is no run, or nothing or too much of it is meant.
    """
    from zephyr.report import trace as tracing
    from zephyr.report import verdicts
    from zephyr.stages import report as module

    run_dir = Path(run_dir).expanduser()
    there = {name: artifacts.Artifact.open(run_dir / name) for name in module.ORDER if Manifest.read(run_dir / name)}
    if not there:
        raise UsageError(f"{run_dir}: no artifact of a run is there")
    if wanted.startswith(("mt-bench ", "alpaca-eval ")):
        return verdicts.judged(there, wanted)
    return module.chain(there, tracing.find(there, wanted))


def describe(result: Result) -> str:
    """A result in words."""
    from zephyr.evals import in_words

    if "artifacts" not in result:
        lines = [f"{result['stage']}: {result['status']}, {result['path']}"]
        lines += [f"  {result['reason']}, {result['rows_in']:,} rows"] if result["status"] == pipeline.WOULD_RUN else []
        lines += [f"  {split}: {n} rows" for split, n in result["rows"].items()]
        lines += [f"  dropped, {reason}: {n}" for reason, n in result["dropped"].items()]
        lines += [f"  {note}" for note in result["notes"]]
        return "\n".join(lines)
    lines = [f"{name:10} {a['status']:9} {a['reason']}" for name, a in result["artifacts"].items()]
    lines += _scores(result["scores"] or {})
    lines += [line for line in in_words.judged(result["judged"] or {}) if line not in lines]
    lines += [f"{what}: {result[what]}" for what in ("model", "report") if result[what]]
    return "\n".join(lines)


def _scores(scores: Mapping[str, Any]) -> list[str]:
    from zephyr.evals import in_words

    lines = []
    for model, nll in scores.get("nll", {}).items():
        lines.append(f"test NLL per token, {model}: {nll['nll_per_token']:.4f} ({nll['template']} template)")
    for name, a in scores.get("reward_accuracy", {}).items():
        interval = "[{:.3f}, {:.3f}]".format(*a["ci95"]) if a["ci95"] else "(no interval)"
        lines.append(f"test reward accuracy, {name}: {a['accuracy']:.3f} {interval} over {a['pairs']} pairs of {a['prompts']} prompts")
    return lines + in_words.scores(scores)
