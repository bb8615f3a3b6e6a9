"""Checkpoints of a training run: written aside, hashed, published in one rename; read only once every byte is known to be right.

    CHECKPOINTS/step-00000120/weights-00000-00000.safetensors …    what is trained, by name; a process writes what it holds
    CHECKPOINTS/step-00000120/optimizer-00000-00000.safetensors …  Adam's moments and step counts, generator states
    CHECKPOINTS/step-00000120/metrics.jsonl                        the log so far
    CHECKPOINTS/step-00000120/checkpoint.json                      step, counters, size and sha256 of every file; written last

Nothing in it can execute code. Where the training stands in its data follows from the step: the order of an epoch is a
hash of seed, epoch and ids. A checkpoint of several processes can be read by any number of them; the folder must be one
that all of them see.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zephyr import world
from zephyr.errors import NonFiniteError, UsageError
from zephyr.guards import interruption, uncut
from zephyr.progress import say
from zephyr.train import pieces
from zephyr.train.pieces import Pieces
from zephyr.train.sealing import LOG, STATE, Parts, Writing, publish, verified
from zephyr.train.state import moments_of, own_generators, restore_generators, restore_moments, weights_of

OWN = "generators"  # which every process has its own of


@dataclass
class Position:
    """How far a training has come: after `step` updates."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    # the last look at the test split, and after which step it was
    test: dict[str, float] = field(default_factory=dict)
    test_step: int = -1


@dataclass
class Checkpoints:
    """The checkpoints of one training run.

    Args:
        folder: where they are.
        log: the metrics of the run so far, which a checkpoint carries along.
        minutes: between two of them; at most this much work is lost.
        keep: how many of the last stay; the best stays too: of those behind the lowest test loss the one nearest to that look.
        background: write them while the training goes on, out of a copy of the state in the host's memory.
        made_with: what a run must have in common with a checkpoint to go on from it and is not in its key (the number format that
            `auto` chose).
    """

    folder: Path
    log: Path
    minutes: float
    keep: int = 2
    made_with: dict[str, str] = field(default_factory=dict)
    background: bool = False

    def __post_init__(self) -> None:
        self.resumed = Position()
        self._writing: Writing | None = None
        self._copies: dict[str, Tensor] = {}
        self._generators: dict[str, Tensor] | None = None  # as they were after the last whole update
        self._step = 0  # the newest there is
        self._since = time.monotonic()
        self._found: tuple[Path, dict[str, Any]] | None = None
        self._looked = False
        self._damaged: set[Path] = set()

    def due(self) -> bool:
        """Is it time for one?"""
        return time.monotonic() - self._since >= 60 * self.minutes

    def mark(self) -> None:
        """An update is whole: what the next one draws (dropout) before it is cut, whoever goes on from here has to draw again."""
        self._generators = own_generators()

    def save(self, position: Position, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Publish a checkpoint, if there is something new to save, then remove the ones that are not kept; in the background, begin to.

        Raises:
            OSError: it could not be written, by one process or another, or the one before that was begun; those before it are untouched.
        """
        self.settle()
        if position.step == self._step:
            return
        tensors = {"weights": weights_of(model), "optimizer": moments_of(model, optimizer), OWN: self._generators or own_generators()}
        parts = {kind: pieces.of_this_process(values, own=kind == OWN) for kind, values in tensors.items()}
        log = self.log.read_bytes() if world.current().leads and self.log.exists() else None
        what = (self.folder / f"step-{position.step:08d}", log, {"position": asdict(position), "made_with": self.made_with})
        if self.background:
            self._writing = Writing(position.step, *what, self._copied(parts))
        else:
            publish(*what, parts)
            self._is_there(position.step)
        self._since = time.monotonic()

    def settle(self, *, whole: bool = True) -> None:
        """Wait for the one that is being written and publish it; or, if it is not to be `whole`, forget it, this process by itself.

        Raises:
            OSError: it could not be written, by one process or another; the ones before it are untouched.
        """
        writing, self._writing = self._writing, None
        if writing and whole:
            writing.publish()
            self._is_there(writing.step)
        elif writing:
            writing.forget()

    def settles(self) -> bool:
        """Is there one that is written and waits to be published?"""
        return self._writing is not None and self._writing.done()

    def _is_there(self, step: int) -> None:
        self._step, self._looked = step, False
        if world.current().leads:
            self._retire()

    def _copied(self, parts: Parts) -> Parts:
        """The state as it is now, in memory that is used again for the next copy; out of a GPU into pages it can write by itself."""
        state = {f"{kind}/{name}": tensor for kind, values in parts.items() for name, tensor in values.items()}
        self._copies |= pieces.room_for({key: tensor for key, tensor in state.items() if key not in self._copies})
        for key, tensor in state.items():
            self._copies[key].copy_(tensor, non_blocking=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return {kind: {name: self._copies[f"{kind}/{name}"] for name in values} for kind, values in parts.items()}

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint and what it says of itself; one that is damaged is said and passed over.

        Raises:
            UsageError: another version of this package wrote it; in all processes.
        """
        if not self._looked:
            found = world.share(self._look() if world.current().leads else None)
            if isinstance(found, UsageError):
                raise found
            self._found, self._looked = found, True
        return self._found

    def _look(self) -> tuple[Path, dict[str, Any]] | UsageError | None:
        for path in self._newest_first():
            try:
                body, problem = verified(path)
            except UsageError as refused:
                return refused
            if body is not None:
                return path, body
            self._damaged.add(path)
            say(f"  checkpoint {path.name} is damaged ({problem}); falling back to the one before")
        return None

    def restore(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Position:
        """Put the newest whole checkpoint into model, optimizer, generators and log; the start, where there is none.

        Nothing is read from one that is damaged.

        Raises:
            UsageError: another version of this package wrote it, or it was computed in another number format than this run has chosen.
        """
        found = self.newest()
        self._looked = False  # what comes after may write or damage others
        if found is None:
            return Position()
        path, body = found
        for name, value in body["made_with"].items():
            if self.made_with.get(name) != value:
                raise UsageError(
                    f"{path}: was computed with {name} {value}, this run with {self.made_with.get(name)}; "
                    f"go on where {value} is chosen, or remove {self.folder} to begin again"
                )
        weights, moments, generators = (
            Pieces(path / file for file in body["files"] if file.startswith(f"{kind}-")) for kind in ("weights", "optimizer", OWN)
        )
        for name, parameter in weights_of(model).items():
            weights.fill(name, parameter)
        restore_moments(model, optimizer, moments)
        restore_generators(generators)
        if world.current().leads:
            self.log.unlink(missing_ok=True)
            if (path / LOG).exists():
                shutil.copyfile(path / LOG, self.log)
        position = Position(**body["position"])
        self._step, self.resumed = position.step, replace(position)
        say(f"  resumed after step {position.step} from {path}")
        return position

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True) if self.folder.is_dir() else []

    def _retire(self) -> None:
        """Remove all but the last `keep` and the best; and those that were found damaged, which count as neither."""
        paths = self._newest_first()
        published = self.folder / f"step-{self._step:08d}"
        for path in paths:
            if path != published and (path in self._damaged or path.name > published.name):
                shutil.rmtree(path)
        self._damaged.clear()
        paths = [path for path in paths if path.is_dir()]
        losses = {path: _test_loss(path) for path in paths}
        best = min(reversed(paths), key=lambda p: losses[p], default=None)
        for path in paths[self.keep :]:
            if path != best or losses[path] == math.inf:
                shutil.rmtree(path)


@contextlib.contextmanager
def stoppable(
    checkpoints: Checkpoints | None, at: Position, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[Callable[[], None]]:
    """While the body trains, Ctrl-C and SIGTERM save the last whole update (`at`), and what is due is saved.

    One process is interrupted at once; of several, all between the same two updates, or after the last; so is one whose weights are
    sharded (`offload: all`), which in the middle of a pass are others than the optimizer's. What is being written when the body ends is
    waited for.

    Yields:
        what to call between two updates.
    """

    def save(*, to_the_end: bool = False) -> None:
        if checkpoints:
            with uncut():
                if at.step:
                    checkpoints.save(at, model, optimizer)
                if to_the_end:
                    checkpoints.settle()

    def settle() -> None:
        if checkpoints:
            with uncut():
                checkpoints.settle()

    def stop_or_save() -> None:
        heard = world.gather(
            (list(arrived), checkpoints is not None and checkpoints.due(), checkpoints is not None and checkpoints.settles())
        )
        if signals := [number for numbers, _, _ in heard for number in numbers]:
            raise interruption(signals[0])
        if all(settles for _, _, settles in heard):
            settle()
        if heard[0][1]:  # the leader's clock decides
            save()

    arrived: list[int] = []
    with contextlib.ExitStack() as stack:
        if world.current().size > 1 or (torch.distributed.is_available() and torch.distributed.is_initialized()):
            arrived = stack.enter_context(uncut())
        try:
            yield stop_or_save
            stop_or_save()  # who was struck in the last step or look must not stop alone
            settle()
        except (KeyboardInterrupt, NonFiniteError) as error:  # which all processes raise together
            if isinstance(error, KeyboardInterrupt):
                save(to_the_end=True)  # a second Ctrl-C comes after both
            else:
                settle()
            raise
        finally:
            if checkpoints:
                checkpoints.settle(whole=False)


def _test_loss(path: Path) -> float:
    try:
        loss = json.loads((path / STATE).read_text(encoding="utf-8"))["body"]["position"]["test"].get("loss")
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return math.inf
    return float(loss) if isinstance(loss, float) else math.inf
