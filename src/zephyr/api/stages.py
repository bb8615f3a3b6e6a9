"""One stage, on plain files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr import artifacts, pipeline
from zephyr.api.base import Result, alone, counts, led
from zephyr.artifacts import Manifest
from zephyr.errors import UsageError
from zephyr.guards import sigterm_interrupts
from zephyr.recipe import DataSource, Recipe, apply_overrides, build, known, load
from zephyr.stages import From, Inputs, Needs


@led
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
    first = next(iter(inputs))
    for setting in settings:
        _refuse_setting(section, setting)
    if not inputs[first]:
        raise UsageError(f"{name}: no input was given")
    given = {key: [DataSource(path=path) for path in paths] for key, paths in inputs.items()}
    if test:
        train = [DataSource(path=path, split="train") for path in inputs[first]]
        given[first] = train + [DataSource(path=path, split="test") for path in test]
    base = load(recipe) if recipe else None
    if base and getattr(base, section) is None:
        raise UsageError(f"{recipe}: has no section `{section}`")
    whole = _recipe_for(base, section, settings, given[first], model, chat_template, seed, known.named(against))
    module = pipeline.module_of(name)
    wanted = module.needs(whole)
    if model is None and any(key in wanted.models for key in ("base", "policy")):
        raise UsageError(f"{name}: needs a model")
    if unread := [key for key in given if key not in wanted.data]:
        raise UsageError(f"{name}: with these settings it reads no {unread[0]}; leave them out")
    for key, found in wanted.data.items():
        if isinstance(found, From) and key not in given:
            raise UsageError(f"{name}: needs {key}, and none were given; `zephyr {found.stage}` makes them")
    needs = Needs({key: given.get(key, found) for key, found in wanted.data.items()}, wanted.models)
    config = module.configure(whole)
    return _sampled(name, config, needs, Path(out).expanduser()) if dry_run else alone(name, config, needs, out)


def _refuse_setting(section: str, setting: str) -> None:
    """What would be passed over, or be looked for where it is not.

    Raises:
        UsageError: it names the data, which this command is given as files; or the section, which goes without saying.
    """
    key = setting.partition("=")[0].strip()
    if key.partition(".")[0] in ("data", "prompts"):
        raise UsageError(f"{setting}: files are named before the settings; what a source's columns are called is said in a recipe")
    if key.startswith(f"{section}."):
        raise UsageError(f"{setting}: behind this command the section is left out: {setting.removeprefix(f'{section}.')}")


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
    return {**found, **counts(manifest)}


@led
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
    return alone("synthesize", module.configure(found), module.needs(found), out)
