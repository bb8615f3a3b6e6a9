"""One step of an experiment: an artifact that is made unless it is there, made from just this.

What the path has a stage for is left to it (`pipeline.run_single`). Steps that no run has (rows, base, scores, answers) are made here, by
the same rules: recognised by key, one process at a time, published whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zephyr import artifacts, hashes, pipeline, sources
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import ZephyrError
from zephyr.guards import sigterm_interrupts
from zephyr.models import load
from zephyr.models.load import ModelRef
from zephyr.models.registry import cache_dir
from zephyr.progress import say
from zephyr.recipe import DataSource, ModelConfig, Section
from zephyr.stages import Inputs


@dataclass(frozen=True)
class Own:
    """A step that is no stage of the path.

    Args:
        kind: what it is called in its manifest.
        version: raised when equal input gives other output than before.
        config: what it depends on.
        out: where it is written.
        data: rows that it reads, by name.
        models: models that it reads, by name.
    """

    kind: str
    version: int
    config: Section
    out: Path
    data: Mapping[str, list[DataSource]] = field(default_factory=dict)
    models: Mapping[str, ModelConfig] = field(default_factory=dict)

    def bound(self) -> pipeline.Work:
        """With its inputs found and hashed.

        Raises:
            ZephyrError: one is missing or damaged.
        """
        cache = cache_dir() / pipeline.FINGERPRINTS
        parents: dict[str, dict[str, str]] = {}
        for name, given in self.data.items():
            digests = [[sources.digest(source, cache), *source.chosen()] for source in given]
            parents[name] = {
                "path": ", ".join(source.path for source in given),
                "digest": hashes.sha256_text(hashes.canonical(digests)),
            }
        refs: dict[str, ModelRef] = {name: load.refer(model, cache) for name, model in self.models.items()}
        parents |= {name: {"path": ref.name, "digest": ref.digest} for name, ref in refs.items()}
        key = artifacts.key_of(self.kind, self.version, self.config.model_dump(), {n: p["digest"] for n, p in parents.items()})
        return pipeline.Work(self.kind, self.config, Inputs(self.data, refs), parents, self.out, key)

    def make(self, do: Callable[[pipeline.Work, Draft], None]) -> bool:
        """Make it unless it is there; whether it had to be made.

        Raises:
            ZephyrError: it failed; the message begins with its name. What stood in its place before is still there.
            KeyboardInterrupt: with its name, and whether it will go on from a checkpoint.
        """
        work = self.bound()
        with sigterm_interrupts(), pipeline.alone_at(self.out):
            artifacts.recover(self.out)
            reason = pipeline.why_not_done(work)
            if reason is None:
                return False
            say(f"{self.kind}: {reason}")
            made_from = {"config": work.config.model_dump(), "parents": work.parents}
            with pipeline.named(work), artifacts.draft(self.out, stage=self.kind, key=work.key, **made_from) as out:
                do(work, out)
        return True


def manifest_of(folder: Path) -> Manifest | None:
    """What an artifact says of itself; None where there is none that can be read."""
    try:
        return Manifest.read(folder)
    except ZephyrError:
        return None


def is_there(folder: Path) -> bool:
    """Whether an artifact stands there, whatever it was made from."""
    return manifest_of(folder) is not None
