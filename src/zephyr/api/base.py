"""What the commands have in common: how several processes do one together, and what is told of a stage."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from zephyr import pipeline, world
from zephyr.artifacts import Manifest
from zephyr.errors import ZephyrError
from zephyr.stages import Needs

Result = dict[str, Any]
P = ParamSpec("P")


def led(do: Callable[P, Result]) -> Callable[P, Result]:
    """Where several processes were started (`torchrun`), the first does it; the others take part, and return or raise the same."""

    @functools.wraps(do)
    def together(*args: P.args, **kwargs: P.kwargs) -> Result:
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

    return together


def alone(stage: str, config: Any, needs: Needs, out: str | Path) -> Result:
    """Run one stage on plain files, and tell what came of it."""
    path = Path(out).expanduser()
    return result_of(pipeline.run_single(stage, config, needs, path.parent, path))


def result_of(outcome: pipeline.Outcome) -> Result:
    """Where a stage's artifact is, what became of it, and what its manifest says."""
    manifest = Manifest.read(outcome.path)
    assert manifest is not None
    return {
        "stage": outcome.stage,
        "path": str(outcome.path),
        "status": outcome.status,
        "reason": outcome.reason,
        "digest": manifest.digest,
        **counts(manifest),
    }


def counts(manifest: Manifest) -> Result:
    """What a manifest says of rows, results and time."""
    return {
        "rows_in": manifest.rows_in,
        "rows": manifest.rows_out,
        "dropped": manifest.dropped,
        "notes": manifest.notes,
        "results": manifest.results,
        "seconds": manifest.seconds,
    }
