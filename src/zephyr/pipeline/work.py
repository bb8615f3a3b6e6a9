"""A stage bound: its settings, its inputs found and hashed, the folder it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr import artifacts, hashes, sources
from zephyr.artifacts import Artifact, Manifest
from zephyr.errors import ArtifactError, UsageError
from zephyr.models import load
from zephyr.pipeline.graph import module_of
from zephyr.recipe import DataSource, Recipe
from zephyr.stages import From, Inputs, Needs

FINGERPRINTS = ".fingerprints.json"  # of inputs that were hashed before


@dataclass(frozen=True)
class Work:
    """One stage bound to its settings, its inputs and the folder it writes."""

    stage: str
    config: Any
    inputs: Inputs
    parents: dict[str, dict[str, str]]
    out: Path
    key: str


def bound(recipe: Recipe, stage: str, run_dir: Path, cache: Path, *, verify: bool = False) -> Work:
    """A stage of a recipe; see `bind`."""
    module = module_of(stage)
    needs, trusted = module.needs(recipe), recipe.model.trust_remote_code
    return bind(stage, module.configure(recipe), needs, run_dir, run_dir / stage, cache, verify=verify, trusted=trusted)


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
        parents[name] = {"path": ", ".join(s.path for s in data[name]), "digest": hashes.sha256_text(hashes.canonical(digests))}
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
    return hashes.sha256_file(artifact.path / artifacts.MANIFEST)
