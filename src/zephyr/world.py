"""The processes of one job, as `torchrun` starts them: the first leads, the others work where it says so.

Everything that is not training runs in the first process alone. For a stage that all take part in, the leader gives
an order, and all of them are in one world until it is done (`together`). A process that was started alone is a world
of one, and nothing here costs it anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from zephyr.errors import UsageError, ZephyrError

T = TypeVar("T")

# the leader may be busy alone for as long as a stage takes; a process that is gone is noticed by its closed connection
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class World:
    """Where a process stands: number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Is it the first, which writes and speaks?"""
        return self.rank == 0


_alone = World()
_current = _alone
_in_step = True


def current() -> World:
    """Who takes part in what is done now: one process, but for a stage that all do together."""
    return _current


def started() -> World:
    """What the launcher started, read from the environment that `torchrun` sets."""
    return World(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS knows no affinity


def connect() -> None:
    """Make the connections between the processes, once.

    Raises:
        UsageError: more processes were started on this machine than it has GPUs.
        ZephyrError: the processes do not find each other.
    """
    global _in_step
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    before, _in_step = _in_step, False  # what goes wrong here each says itself: nobody can be told
    backend = "gloo"
    if torch.cuda.is_available():
        here, there = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
        if here > there:
            raise UsageError(f"{here} processes were started on a machine that shows {there} GPUs; give torchrun --nproc-per-node {there}")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ZephyrError(
            f"the processes of this job could not connect over {place} ({first}); if the first has ended, its own message says why; "
            "else every machine has to reach that address and its own name, and GLOO_SOCKET_IFNAME (with GPUs NCCL_SOCKET_IFNAME, too) "
            "names the network to use where there are several"
        ) from error
    _in_step = before


def disconnect() -> None:
    """Close the connections, if there are any."""
    import sys

    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def together() -> Iterator[World]:
    """All processes that were started take part in the body; one that leaves it with an error may have left others waiting."""
    global _current, _in_step
    _current, _in_step = started(), False
    try:
        yield _current
        _in_step = True
    finally:
        _current = _alone


def in_step() -> bool:
    """Did all that was done together end without an error in this process?"""
    return _in_step


def order(what: Any) -> Any:
    """The leader's word to those who wait for it: what is to be done, or None for the end."""
    return _broadcast(what) if started().size > 1 else what


def share(value: T) -> T:
    """What the leader has, for all who take part."""
    return _broadcast(value) if _current.size > 1 else value


def gather(value: T) -> list[T]:
    """What each has, for all who take part, in the order of their ranks."""
    if _current.size == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * _current.size
    dist.all_gather_object(values, value)
    return values


@contextmanager
def failing_together() -> Iterator[None]:
    """An OSError in the body of one (a full disk) is raised in all, so that none waits for one that has given up."""
    error: OSError | None = None
    try:
        yield
    except OSError as caught:
        error = caught
    errors = [e for e in gather(error) if e is not None]
    if errors:
        raise error or errors[0]


def _broadcast(value: T) -> T:
    import torch.distributed as dist

    connect()
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    result: T = box[0]
    return result
