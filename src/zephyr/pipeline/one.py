"""One stage: run unless it is done, and published; by several processes where they were started."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr import artifacts, world
from zephyr.artifacts import Artifact, Manifest
from zephyr.errors import LeaderGoneError, UsageError, ZephyrError
from zephyr.guards import is_out_of_memory, locked, memory_error, os_error, sigterm_interrupts
from zephyr.pipeline.current import why_not_done
from zephyr.pipeline.graph import TOGETHER, module_of
from zephyr.pipeline.up_front import refuse_benchmarks
from zephyr.pipeline.work import FINGERPRINTS, Work, bind
from zephyr.progress import mute, say
from zephyr.stages import Needs

DONE, RAN, WOULD_RUN = "done", "ran", "would run"

TRAINED = (
    "; `train.activation_checkpointing=true`, then fewer `train.micro_batch_tokens`, `train.offload`, or an adapter take less "
    "(`zephyr plan RECIPE` says what fits)"
)
SCORED = "; fewer `train.micro_batch_tokens` take less"
# what helps a stage that memory does not suffice for
TAKES_LESS = {"sft": TRAINED, "dpo": TRAINED, "reference": SCORED, "evaluate": SCORED}


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: `done` (it was there already), `ran`, `would run`."""

    stage: str
    status: str
    reason: str
    path: Path


def run_single(stage: str, config: Any, needs: Needs, run_dir: Path, out: Path) -> Outcome:
    """One stage on plain files; `run_dir` is where it finds what other stages made, if it needs that."""
    from zephyr.models.registry import cache_dir

    if not out.name:
        raise UsageError(f"{out}: --out needs a folder with a name of its own")
    with sigterm_interrupts():
        return run_one(bind(stage, config, needs, run_dir, out, cache_dir() / FINGERPRINTS))


def run_one(work: Work, *, verify: bool = False) -> Outcome:
    """Run a stage unless it is done.

    Raises:
        ZephyrError: it failed; the message begins with its name. What stood in its folder before is still there.
        KeyboardInterrupt: with its name as the argument, and whether it will go on from a checkpoint; the same holds.
    """
    with alone_at(work.out):
        artifacts.recover(work.out)
        return _run_one(work, verify=verify)


def alone_at(out: Path) -> AbstractContextManager[None]:
    """One process at a time in an artifact's place, be it at a whole run or at this stage alone."""
    return locked(out.with_name(f".{out.name}.lock"))


@contextlib.contextmanager
def named(work: Work) -> Iterator[None]:
    """What ends the body early says of which stage it is.

    Raises:
        ZephyrError: its message begins with the stage's name; what the system refused is one, too, and memory that did not suffice.
        KeyboardInterrupt: with the stage's name as the argument, and whether it will go on from a checkpoint.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        raise type(error)(work.stage, artifacts.has_checkpoints(work.out, work.key)) from error
    except ZephyrError as error:
        error.args = (f"{work.stage}: {error}",)
        raise
    except OSError as error:
        raise ZephyrError(f"{work.stage}: {os_error(error, work.out.parent)}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ZephyrError(f"{work.stage}: {memory_error(error)}{TAKES_LESS.get(work.stage, '')}") from error


def _run_one(work: Work, *, verify: bool) -> Outcome:
    reason = why_not_done(work, verify=verify)
    if reason is None:
        say(f"{work.stage}: done already")
        return Outcome(work.stage, DONE, "up to date", work.out)
    say(f"{work.stage}: {reason}")
    with named(work):
        if work.stage == "evaluate":
            refuse_benchmarks(work.config.evaluate)
        artifact = execute(work)
    m = artifact.manifest
    rows = ", ".join(rows_in_words(n, split, m.results.get("dialogues")) for split, n in m.rows_out.items())
    dropped = f", {sum(m.dropped.values())} dropped" if m.dropped else ""
    say(f"{work.stage}: {rows + dropped + ', ' if rows else ''}{m.seconds:.1f} s")
    return Outcome(work.stage, RAN, reason, work.out)


def rows_in_words(n: int, split: str, dialogues: object) -> str:
    """How many rows of a split; where several dialogues are packed to a sequence, how many of both."""
    packed = dialogues.get(split, n) if isinstance(dialogues, dict) else n
    return f"{n} {split}" if packed == n else f"{packed} {split} dialogues in {n} sequence{'s' if n != 1 else ''}"


def execute(work: Work) -> Artifact:
    """Run one stage and publish its artifact."""
    made_from = {"config": work.config.model_dump(), "parents": work.parents}
    with artifacts.draft(work.out, stage=work.stage, key=work.key, **made_from) as out, _together(work):
        module_of(work.stage).run(work.config, work.inputs, out)
    return Artifact.open(work.out)


# --- by several processes --------------------------------------------------------------------------------------


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
        with named(work), tempfile.TemporaryDirectory() as scratch, sigterm_interrupts(), world.together():
            manifest = Manifest(work.stage, work.key, work.config.model_dump(), work.parents)
            module_of(work.stage).run(work.config, work.inputs, artifacts.Draft(Path(scratch), work.out, manifest, resumable=True))
    if isinstance(work, BaseException):
        raise work
    return work


def _ordered() -> Any:
    world.connect()
    try:
        return world.order(None)
    except RuntimeError as error:  # what a closed connection is raised as
        raise LeaderGoneError("the first process of this job has ended") from error
