"""The order of the stages, what is already done, what comes next."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr import artifacts, sources, world
from zephyr.artifacts import Artifact, Manifest, TornManifestError
from zephyr.errors import ArtifactError, LeaderGoneError, ModelError, UsageError, ZephyrError
from zephyr.guards import locked, os_error, sigterm_interrupts
from zephyr.models import load
from zephyr.progress import mute, say
from zephyr.recipe import APIConfig, DataSource, EvaluateConfig, Recipe
from zephyr.stages import From, Inputs, Needs
from zephyr.teachers import wire

FINGERPRINTS = ".fingerprints.json"
STAGES = ("synthesize", "curate", "sft", "complete", "rate", "binarize", "reference", "dpo", "answer", "judge", "evaluate", "report")
DONE, RAN, WOULD_RUN = "done", "ran", "would run"
# what several processes, where they were started, do together; the rest is done by the first
TOGETHER = ("sft", "reference", "dpo")
# the files of an artifact; a folder with any other in it, hidden ones too, is not ours to replace
OWN_FILES = re.compile(
    r"manifest\.json|data/\w+-\d{5}\.parquet|data/scores\.json|data/(?:mt_bench|alpaca_eval|ifeval|preferences)[\w.-]*\.jsonl?|dropped/dropped\.jsonl|changed/truecased\.jsonl|metrics\.jsonl|model/.+|report\.html|README\.md"
)


@dataclass(frozen=True)
class Work:
    """One stage bound to its settings, its inputs and the folder it writes."""

    stage: str
    config: Any
    inputs: Inputs
    parents: dict[str, dict[str, str]]
    out: Path
    key: str


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: `done` (it was there already), `ran`, `would run`."""

    stage: str
    status: str
    reason: str
    path: Path


def stages_of(recipe: Recipe) -> list[str]:
    """The stages a recipe asks for, in order. The reference's log-probabilities belong to dpo, answers to who judges them."""
    sections = {"reference": recipe.dpo, "answer": recipe.judge}
    return [name for name in STAGES if (sections[name] if name in sections else getattr(recipe, name)) is not None]


def module_of(stage: str) -> Any:
    """The module of a stage."""
    return importlib.import_module(f"zephyr.stages.{stage}")


def out_of(recipe: Recipe, out: str | Path | None = None) -> Path:
    """The folder of a run: as asked, as the recipe says, or `runs/NAME`."""
    return Path(out or recipe.out or Path("runs") / recipe.name).expanduser()


# --- binding ---------------------------------------------------------------------------------------------------


def bind(
    stage: str, config: Any, needs: Needs, run_dir: Path, out: Path, cache: Path, *, verify: bool = False, trusted: bool = False
) -> Work:
    """A stage with its inputs found and hashed; what it takes from other stages must be there.

    Args:
        stage: its name.
        config: its settings.
        needs: what it reads.
        run_dir: the folder in which other stages have written.
        out: the folder it writes.
        cache: a file that remembers hashes of inputs.
        verify: hash the files of artifacts again before they are believed.
        trusted: models that other stages made may run the code that their base came with.

    Raises:
        ZephyrError: an input is missing or damaged.
    """
    data: dict[str, Sequence[DataSource]] = {}
    models: dict[str, load.ModelRef] = {}
    parents: dict[str, dict[str, str]] = {}
    for name, wanted in needs.data.items():
        digests: list[list[Any]]
        if isinstance(wanted, From):
            made = _upstream(run_dir, wanted.stage, stage, verify=verify)
            data[name], digests = [DataSource(path=str(made.path))], [[_digest(made, whole=wanted.whole), None, {}]]
        else:
            data[name], digests = wanted, [[sources.digest(s, cache, verify=verify), *s.chosen()] for s in wanted]
        parents[name] = {"path": ", ".join(s.path for s in data[name]), "digest": artifacts.sha256_text(artifacts.canonical(digests))}
    for name, model in needs.models.items():
        if isinstance(model, From):
            made = _upstream(run_dir, model.stage, stage, verify=verify)
            ref = load.ModelRef(str(made.model_dir), made.manifest.digest, trust_remote_code=trusted)
        else:
            ref = load.refer(model, cache, verify=verify)
        models[name] = ref
        parents[name] = {"path": ref.name, "digest": ref.digest, **({"revision": ref.revision} if ref.revision else {})}
    digest_of = {name: parent["digest"] for name, parent in parents.items()}
    key = artifacts.key_of(stage, module_of(stage).VERSION, config.model_dump(), digest_of)
    return Work(stage, config, Inputs(data, models), parents, out, key)


def _upstream(run_dir: Path, stage: str, wanted_by: str, *, verify: bool) -> Artifact:
    path = run_dir / stage
    if Manifest.read(path) is None:
        raise UsageError(
            f"{wanted_by} needs what {stage} makes, and {path} is not there; run `zephyr run` without --only, or with --until {wanted_by}"
        )
    artifact = Artifact.open(path)
    if problem := artifact.check(verify=verify):
        raise ArtifactError(f"{wanted_by} needs what {stage} makes, and {problem}; run `zephyr run` without --only to make it again")
    return artifact


def _digest(artifact: Artifact, *, whole: bool) -> str:
    """What came out; with `whole`, its counts and logs too, which the digest of an artifact leaves out."""
    if not whole:
        return artifact.manifest.digest
    return artifacts.sha256_file(artifact.path / artifacts.MANIFEST)


def _bound(recipe: Recipe, stage: str, run_dir: Path, cache: Path, *, verify: bool) -> Work:
    """A stage of a recipe, bound."""
    module = module_of(stage)
    needs, trusted = module.needs(recipe), recipe.model.trust_remote_code
    return bind(stage, module.configure(recipe), needs, run_dir, run_dir / stage, cache, verify=verify, trusted=trusted)


# --- is it done? -----------------------------------------------------------------------------------------------


def why_not_done(work: Work, *, verify: bool = False) -> str | None:
    """None if the artifact is there and made from just this; else what is different, in words.

    Raises:
        UsageError: something that is not this stage's artifact stands in its place.
    """
    try:
        manifest = Manifest.read(work.out)
    except TornManifestError as error:
        problem = str(error).split(";")[0]
        if strange := _not_ours(work.out):
            raise UsageError(f"{problem}, and {strange} is no file of an artifact, so it is not replaced; give another --out") from None
        return problem
    except ArtifactError as error:
        raise UsageError(f"{str(error).split(';')[0]}, so {work.out} is not replaced; give another --out, or remove it") from None
    if manifest is None:
        _refuse_to_replace(work.out)
        return "not there yet"
    if manifest.stage != work.stage:
        raise UsageError(f"{work.out}: holds what {manifest.stage} made, and {work.stage} would replace it; give another --out")
    if manifest.key != work.key:
        return _what_changed(manifest, work)
    return Artifact(work.out, manifest).check(verify=verify)


def _not_ours(folder: Path) -> Path | None:
    """Something in a folder that no stage writes, or None."""
    files = (p for p in sorted(folder.rglob("*")) if not p.is_dir() or p.is_symlink())
    return next((p for p in files if not OWN_FILES.fullmatch(p.relative_to(folder).as_posix())), None)


def _refuse_to_replace(path: Path) -> None:
    """An artifact is published by a rename over what stood there, so what is not ours must not stand there."""
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path}: is there, not empty, and no artifact, so it is not replaced; give another --out, or remove it")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file; an artifact is a folder, give another --out")


def _what_changed(manifest: Manifest, work: Work) -> str:
    before, now = _flat(manifest.config), _flat(work.config.model_dump())
    changes = [
        f"{name} {before.get(name, 'unset')!r} -> {now.get(name, 'unset')!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    changes += [
        f"{name} changed" for name, p in sorted(work.parents.items()) if manifest.parents.get(name, {}).get("digest") != p["digest"]
    ]
    return ", ".join(changes) or "this version of the stage computes it differently"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat.update(_flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) and item else {f"{prefix}{name}": item})
    return flat


# --- running ---------------------------------------------------------------------------------------------------


def execute(work: Work) -> Artifact:
    """Run one stage and publish its artifact."""
    made_from = {"config": work.config.model_dump(), "parents": work.parents}
    with artifacts.draft(work.out, stage=work.stage, key=work.key, **made_from) as out, _together(work):
        module_of(work.stage).run(work.config, work.inputs, out)
    return Artifact.open(work.out)


@contextlib.contextmanager
def _together(work: Work) -> Iterator[None]:
    """Where several processes were started and the stage is one that all take part in, the others are told to."""
    if world.started().size == 1 or work.stage not in TOGETHER:
        yield
        return
    world.order(work)
    with world.together():
        yield


def follow() -> Any:
    """What a process does that was started beside the first: take part in stages, until the first one says what came out.

    Raises:
        ZephyrError: a stage failed, in all processes; or the first process is gone.
        KeyboardInterrupt: the stage was interrupted, in all processes.
    """
    mute()
    while isinstance(work := _ordered(), Work):
        with tempfile.TemporaryDirectory() as scratch, sigterm_interrupts(), world.together():
            manifest = Manifest(work.stage, work.key, work.config.model_dump(), work.parents)
            module_of(work.stage).run(work.config, work.inputs, artifacts.Draft(Path(scratch), work.out, manifest))
    if isinstance(work, BaseException):
        raise work
    return work


def _ordered() -> Any:
    try:
        return world.order(None)
    except RuntimeError as error:  # what a closed connection is raised as
        raise LeaderGoneError("the first process of this job has ended") from error


def selected(recipe: Recipe, only: str | None, until: str | None) -> list[str]:
    """The stages to run, in order.

    Raises:
        UsageError: the recipe has no stages; `only` or `until` names one it does not have, or both are given.
    """
    stages = stages_of(recipe)
    if stages == ["report"]:
        raise UsageError(
            f"{recipe.name}: the recipe has no section that is a stage, so there is nothing to report; `zephyr init` writes an example"
        )
    if only and until:
        raise UsageError("--only and --until exclude each other; give one")
    for name in filter(None, (only, until)):
        if name not in stages:
            raise UsageError(f"{name}: not a stage of this recipe; it has {', '.join(stages)}")
    if only:
        return [only]
    return stages[: stages.index(until) + 1] if until else stages


def plan(recipe: Recipe, run_dir: Path, *, only: str | None = None, until: str | None = None, verify: bool = False) -> list[Outcome]:
    """What a run would do, without doing any of it: nothing is written."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / FINGERPRINTS
        if (run_dir / FINGERPRINTS).exists():  # what was hashed before need not be hashed again
            shutil.copyfile(run_dir / FINGERPRINTS, cache)
        outcomes = _plan(recipe, run_dir, selected(recipe, only, until), cache, verify=verify)
        _refuse_what_would_fail_late(recipe, _pending(outcomes), cache, fetch=False)
        return outcomes


def _pending(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.stage for outcome in outcomes if outcome.status == WOULD_RUN]


def _plan(recipe: Recipe, run_dir: Path, stages: Sequence[str], cache: Path, *, verify: bool = False) -> list[Outcome]:
    outcomes: list[Outcome] = []
    redone: set[str] = set()
    for stage in stages:
        needs = module_of(stage).needs(recipe)
        waits = [w.stage for w in (*needs.data.values(), *needs.models.values()) if isinstance(w, From) and w.stage in redone]
        if waits:
            reason: str | None = f"after {', '.join(dict.fromkeys(waits))}"
        else:
            reason = why_not_done(_bound(recipe, stage, run_dir, cache, verify=verify), verify=verify)
        if reason:
            redone.add(stage)
        outcomes.append(Outcome(stage, WOULD_RUN if reason else DONE, reason or "up to date", run_dir / stage))
    return outcomes


def run(recipe: Recipe, run_dir: Path, *, only: str | None = None, until: str | None = None, verify: bool = False) -> list[Outcome]:
    """Take a recipe through its stages; what is done already is recognised and skipped.

    Raises:
        UsageError: `only` or `until` names a stage the recipe does not have.
        ZephyrError: a stage failed; what was finished before it is kept.
        KeyboardInterrupt: Ctrl-C (or `Terminated`, SIGTERM), with the stage as its first argument; the same holds.
    """
    stages = selected(recipe, only, until)
    cache = run_dir / FINGERPRINTS
    if run_dir.exists() and not run_dir.is_dir():
        raise UsageError(f"{run_dir}: is a file; the folder of a run is needed, give another --out")
    with locked(run_dir / ".lock"), sigterm_interrupts():
        for stage in stages_of(recipe):
            with _alone_at(run_dir / stage):
                artifacts.recover(run_dir / stage)
        if only:
            _say_what_is_stale(recipe, run_dir, only, cache)
        pending = _pending(_plan(recipe, run_dir, stages, cache))
        _refuse_what_would_fail_late(recipe, pending, cache)
        _say_forecast(recipe, pending, cache)
        outcomes = [run_one(_bound(recipe, stage, run_dir, cache, verify=verify), verify=verify) for stage in stages]
        _place_card(recipe, run_dir, stages)
    return outcomes


def _alone_at(out: Path) -> AbstractContextManager[None]:
    """One process at a time in an artifact's place, be it at a whole run or at this stage alone."""
    return locked(out.with_name(f".{out.name}.lock"))


def _say_what_is_stale(recipe: Recipe, run_dir: Path, only: str, cache: Path) -> None:
    """A stage that runs alone takes what is there, also where the recipe has changed since."""
    before = stages_of(recipe)
    before = before[: before.index(only)]
    there = [stage for stage in before if (run_dir / stage / artifacts.MANIFEST).exists()]
    if there != before:
        return  # what is missing is said where it is needed
    if stale := _pending(_plan(recipe, run_dir, before, cache)):
        say(f"{only}: takes what is there, though with this recipe {', '.join(stale)} would run again")


def _refuse_what_would_fail_late(recipe: Recipe, pending: Sequence[str], cache: Path, *, fetch: bool = True) -> None:
    """What stages take from outside has to be there before the first of them runs: hours may lie between.

    Without `fetch`, a model that is not on this machine is not asked what it can do.

    Raises:
        ZephyrError: a file, a model, a teacher's key or a package is not there, or the model cannot do what is asked of it.
    """
    for stage in pending:
        needs = module_of(stage).needs(recipe)
        for wanted in needs.data.values():
            for source in () if isinstance(wanted, From) else wanted:
                sources.resolve(source.path)
        refs = {name: load.refer(model, cache) for name, model in needs.models.items() if not isinstance(model, From)}
        if stage == "evaluate":
            _refuse_reference(refs)
    for place, teacher in recipe.teachers().items():
        if place.split(".")[0] in pending and isinstance(teacher, APIConfig):
            wire.secret_of(place, teacher)
    if "evaluate" in pending and recipe.evaluate:
        _refuse_benchmarks(recipe.evaluate)
    if fetch:
        _refuse_files(recipe, pending)
    adapted = {name: s.lora for name, s in (("sft", recipe.sft), ("dpo", recipe.dpo)) if name in pending and s and s.lora}
    wanted = [(f"{name}.lora", "adapters need peft", "peft", "lora") for name in adapted]
    wanted += [(f"{n}.lora.quantize", "4 bits need bitsandbytes", "bitsandbytes", "qlora") for n, lora in adapted.items() if lora.quantize]
    for place, what, package, extra in wanted:
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"{place}: {what}, which is not installed: pip install 'zephyr-align[{extra}]'")
    if {"sft", "reference", "dpo"} & set(pending):
        from zephyr.train.student import refuse_apart

        refuse_apart(next((lora.quantize for lora in adapted.values() if lora.quantize), None), recipe.train.offload, world.started().size)
    if {"sft", "reference", "dpo", "evaluate"} & set(pending):
        student = load.refer(recipe.model, cache)
        if fetch or load.is_here(student):
            _refuse_what_the_model_cannot(recipe, pending, student)


def _refuse_what_the_model_cannot(recipe: Recipe, pending: Sequence[str], student: load.ModelRef) -> None:
    """Lengths beyond its context, adapters on layers that it does not have; what is trained later in the run is of the same shape."""
    readers = {"sft": ("sft", "evaluate"), "dpo": ("reference", "dpo", "evaluate")}
    read = {name: section for name, section in (("sft", recipe.sft), ("dpo", recipe.dpo)) if section and {*readers[name]} & {*pending}}
    load.refuse_longer(student, {f"{name}.max_length": section.max_length for name, section in read.items()})
    for name, section in read.items():
        if name in pending and section.lora and section.lora.target_modules != ["all-linear"]:
            from zephyr.train import lora

            try:
                lora.targets(load.without_weights(student), section.lora.target_modules)
            except ModelError as error:
                raise ModelError(f"{name}.{error}") from None


def _refuse_reference(refs: Mapping[str, load.ModelRef]) -> None:
    from zephyr.evals import preference_runs

    preference_runs.refuse_itself(refs)


def _refuse_files(recipe: Recipe, pending: Sequence[str]) -> None:
    """Rows of benchmarks that a later stage would refuse."""
    if {"answer", "judge", "evaluate"} & set(pending):
        from zephyr.evals import up_front

        judge = recipe.judge if {"answer", "judge"} & set(pending) else None
        up_front.refuse_wrong_files(judge, recipe.evaluate if "evaluate" in pending else None)


def _refuse_benchmarks(section: EvaluateConfig) -> None:
    from zephyr.evals import public

    public.files(section)  # a file that is not there, a name that is not the task's on the hub
    if section.benchmarks and importlib.util.find_spec("lm_eval") is None:
        raise UsageError("academic tasks need lm-eval, which is not installed: pip install 'zephyr-align[eval]'")


def _say_forecast(recipe: Recipe, pending: Sequence[str], cache: Path) -> None:
    """How long it will take, if there is training or scoring to do."""
    heavy = {"sft", "reference", "dpo", "evaluate"} & set(pending)
    if heavy and (recipe.train.offload == "all" or any(section and section.quantize for section in (recipe.sft, recipe.dpo))):
        say("forecast: not known: it would be measured with the whole model on the device, which this recipe keeps off it")
    elif heavy:
        from zephyr import forecast

        # rows are not checked yet: the forecast passes over wrong ones, which are for their stage to refuse, with the place
        say(forecast.describe(forecast.forecast(recipe, heavy, load.refer(recipe.model, cache))))


def run_one(work: Work, *, verify: bool = False) -> Outcome:
    """Run a stage unless it is done.

    Raises:
        ZephyrError: it failed; the message begins with its name. What stood in its folder before is still there.
        KeyboardInterrupt: with its name as the argument, and whether it will go on from a checkpoint; the same holds.
    """
    with _alone_at(work.out):
        artifacts.recover(work.out)
        return _run_one(work, verify=verify)


def _run_one(work: Work, *, verify: bool) -> Outcome:
    reason = why_not_done(work, verify=verify)
    if reason is None:
        say(f"{work.stage}: done already")
        return Outcome(work.stage, DONE, "up to date", work.out)
    say(f"{work.stage}: {reason}")
    try:
        if work.stage == "evaluate":
            _refuse_benchmarks(work.config.evaluate)
        artifact = execute(work)
    except KeyboardInterrupt as error:
        raise type(error)(work.stage, _has_checkpoints(work)) from error
    except ZephyrError as error:
        error.args = (f"{work.stage}: {error}",)
        raise
    except OSError as error:
        raise ZephyrError(f"{work.stage}: {os_error(error, work.out.parent)}") from error
    m = artifact.manifest
    rows = ", ".join(f"{n} {split}" for split, n in m.rows_out.items())
    dropped = f", {sum(m.dropped.values())} dropped" if m.dropped else ""
    say(f"{work.stage}: {rows + dropped + ', ' if rows else ''}{m.seconds:.1f} s")
    return Outcome(work.stage, RAN, reason, work.out)


def _has_checkpoints(work: Work) -> bool:
    return any((artifacts.checkpoints_of(work.out) / work.key[:16]).glob("step-*"))


def _place_card(recipe: Recipe, run_dir: Path, stages: Sequence[str]) -> None:
    """The model card, beside the model it describes. It is not part of the model's artifact: it is made from its results."""
    card = run_dir / "report" / "README.md"
    model = next((run_dir / stage / "model" for stage in ("dpo", "sft") if stage in stages_of(recipe)), None)
    if "report" not in stages or not model or _same(card, model / "README.md"):
        return
    aside = model / ".README.md.partial"
    try:
        shutil.copyfile(card, aside)
        aside.replace(model / "README.md")
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise ZephyrError(f"report: {os_error(error, model)}") from error


def _same(a: Path, b: Path) -> bool:
    return b.exists() and a.read_bytes() == b.read_bytes()


def summary(recipe: Recipe, run_dir: Path, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Where everything is, and the scores: what `--json` prints. What would only run is named without its old results."""
    there = {outcome.stage for outcome in outcomes if outcome.status != WOULD_RUN}
    scores, judged = (Manifest.read(run_dir / stage) if stage in there else None for stage in ("evaluate", "judge"))
    model = next((run_dir / stage / "model" for stage in ("dpo", "sft") if stage in there), None)
    return {
        "name": recipe.name,
        "out": str(run_dir),
        "artifacts": {outcome.stage: _described(outcome) for outcome in outcomes},
        "model": str(model) if model else None,
        "report": str(run_dir / "report" / "report.html") if "report" in there else None,
        "scores": scores.results if scores else None,
        "judged": judged.results if judged else None,
    }


def _described(outcome: Outcome) -> dict[str, Any]:
    described = {"path": str(outcome.path), "status": outcome.status, "reason": outcome.reason}
    manifest = Manifest.read(outcome.path) if outcome.status != WOULD_RUN else None
    if manifest is None:
        return described
    return {**described, "digest": manifest.digest, "rows": manifest.rows_out, "dropped": manifest.dropped, "seconds": manifest.seconds}


def run_single(stage: str, config: Any, needs: Needs, run_dir: Path, out: Path) -> Outcome:
    """One stage on plain files; `run_dir` is where it finds what other stages made, if it needs that."""
    from zephyr.models.registry import cache_dir

    if not out.name:
        raise UsageError(f"{out}: --out needs a folder with a name of its own")
    with sigterm_interrupts():
        return run_one(bind(stage, config, needs, run_dir, out, cache_dir() / FINGERPRINTS))
