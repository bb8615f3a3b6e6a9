"""The log of a training, shown elsewhere too: TensorBoard, Weights & Biases, trackio. The JSONL file is written in any case."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zephyr import world
from zephyr.errors import UsageError
from zephyr.models.reading import first_line
from zephyr.progress import say

Log = Callable[[dict[str, Any]], None]
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


def require(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed: a run before its first stage, a stage by itself before its first step.

    Raises:
        UsageError: naming the package.
    """
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise UsageError(f"train.log_to: {name} is not installed: pip install {PACKAGES[name]}, or take it out")


@contextlib.contextmanager
def tee(log: Log, names: Sequence[str], folder: Path, settings: dict[str, Any], begins: int = 0) -> Iterator[Log]:
    """A log that tells the trackers, too, as `train/loss` and `test/loss` by step; in the leader alone.

    Args:
        log: the one that is always written.
        names: of `PACKAGES`.
        folder: the artifact that is being made: its name is that of the stage, its parent's that of the run. What TensorBoard reads
            goes beside it, into `tensorboard/STAGE`.
        settings: of the stage, for the trackers that show them.
        begins: the first step that will be logged. TensorBoard strikes out what it was told of this step and later ones before, by a run
            that was cut after its last checkpoint.
    """
    if not names or not world.current().leads:
        yield log
        return
    require(names)
    with contextlib.ExitStack() as stack:
        logs = [log, *(stack.enter_context(_OPEN[name](folder, settings, begins)) for name in names)]

        def every(line: dict[str, Any]) -> None:
            for one in logs:
                one(line)

        yield every


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    kind = line["kind"]
    return {f"{kind}/{name}": value for name, value in line.items() if name not in ("kind", "step") and isinstance(value, int | float)}


@contextlib.contextmanager
def _tensorboard(folder: Path, settings: dict[str, Any], begins: int) -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder.parent / "tensorboard" / folder.name), purge_step=begins)

    def log(line: dict[str, Any]) -> None:
        for name, value in _numbers(line).items():
            writer.add_scalar(name, value, line["step"])
        writer.flush()

    try:
        yield log
    finally:
        writer.close()


@contextlib.contextmanager
def _like_wandb(package: str, folder: Path, settings: dict[str, Any]) -> Iterator[Log]:
    """Weights & Biases, or trackio, which has the same calls. A run that goes on is another run there: neither takes back a step.

    What they print goes to stderr: stdout is for the result. One that fails later on is not worth a training, which goes on without it.

    Raises:
        UsageError: it cannot begin (nobody is logged in, no network).
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(package)
            module.init(project="zephyr", name=f"{folder.resolve().parent.name}/{folder.name}", config=settings)
    except Exception as error:
        offline = ", set WANDB_MODE=offline" if package == "wandb" else ""
        raise UsageError(f"train.log_to: {package} cannot begin ({first_line(error)}); mend that{offline}, or take it out") from error
    lost = False

    def tell(call: Callable[[], object]) -> None:
        nonlocal lost
        try:
            if not lost:
                with contextlib.redirect_stdout(sys.stderr):
                    call()
        except Exception as error:
            lost = True
            say(f"  train.log_to: {package} failed ({first_line(error)}) and is told no more; metrics.jsonl has every line")

    try:
        yield lambda line: tell(lambda: module.log(_numbers(line), step=line["step"]))
    finally:
        tell(module.finish)


_OPEN: dict[str, Callable[[Path, dict[str, Any], int], contextlib.AbstractContextManager[Log]]] = {
    "tensorboard": _tensorboard,
    "wandb": lambda folder, settings, _: _like_wandb("wandb", folder, settings),
    "trackio": lambda folder, settings, _: _like_wandb("trackio", folder, settings),
}
