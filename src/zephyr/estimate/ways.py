"""The ways to run a training stage: on so many devices of a kind, what each holds, whether that fits, and what would make it fit."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zephyr.estimate import machines
from zephyr.estimate.machines import Machine
from zephyr.recipe import LoRAConfig
from zephyr.recipe.training import number_of_looks

if TYPE_CHECKING:
    from zephyr.estimate.training import Planner
    from zephyr.estimate.workload import Work

MORE = (1, 2, 4, 8, 16, 32, 64)  # devices that are tried where it does not fit
LOOKS = 0.2  # the share of all operations up to which looking at the test rows is not worth a word
_NAMES = {"recompute": "activation_checkpointing", "budget": "micro_batch_tokens", "offload": "offload"}


def of(
    planner: Planner, work: Work, kinds: Sequence[Machine], devices: Sequence[int], dtype: str
) -> Iterator[tuple[Machine, dict[str, Any]]]:
    """Each number of devices by each kind: the bytes that one holds, and whether they fit."""
    now = _now(planner)
    for count in devices:
        found = planner.bytes(work, dtype, count, **now)
        whole, why = loaded(planner, work, now["offload"]), refused(planner, work, count)
        peak = max(found.peak, whole)
        for kind in kinds:
            yield (
                kind,
                {
                    "gpu": kind.name,
                    "devices": count,
                    "bytes": found.json(),
                    "loaded_bytes": round(whole),
                    "peak_bytes": round(peak),
                    "fits": not why and peak <= _limit(kind),
                    "refused": why or None,
                },
            )


def loaded(planner: Planner, work: Work, offload: str) -> float:
    """Bytes of the model whole, in float32: each device has it before it is shared out, and while it is the reference."""
    if work.config.quantize or (offload == "all" and not work.reference):  # loaded in the host's memory
        return 0.0
    return 4.0 * planner.shape.parameters


def refused(planner: Planner, work: Work, count: int) -> str:
    """Why the training would not begin on so many devices, whatever they hold; "" where it would."""
    if count == 1:
        return ""
    if work.config.quantize:
        return "weights in 4 bits (lora.quantize) are trained on one device alone"
    if planner.recipe.train.offload == "optimizer":
        return "train.offload=optimizer is for one device alone; all is for several"
    return ""


def advice(planner: Planner, work: Work, kinds: Sequence[Machine], devices: Sequence[int], dtype: str) -> list[str]:
    """What would make it fit where it does not; kinds and numbers of devices for which that is the same, together."""
    found: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for count in sorted(set(devices)):
        said: dict[str, list[str]] = {}
        for kind in kinds:
            if not refused(planner, work, count) and (text := change(planner, work, kind, count, dtype)):
                said.setdefault(text, []).append(kind.name)
        for text, names in said.items():
            found.setdefault((text, tuple(names)), []).append(count)
    return [f"{' or '.join(map(str, counts))} x {', '.join(names)}: {text}" for (text, names), counts in found.items()]


def change(planner: Planner, work: Work, kind: Machine, count: int, dtype: str) -> str:
    """The smallest change with which a stage fits on so many devices of a kind; "" where it fits as it is.

    First what changes no result: settings of the training. Where none will do, more devices, and an adapter.
    """
    now = _now(planner)
    smaller = {**now, "recompute": True, "budget": min(now["budget"], work.longest)}

    def fits(devices: int, how: dict[str, Any], what: Work = work) -> bool:
        return loaded(planner, what, how["offload"]) <= _limit(kind) and planner.bytes(what, dtype, devices, **how).peak <= _limit(kind)

    if fits(count, now):
        return ""
    ways = [{**now, "recompute": True}, {**now, "budget": smaller["budget"]}, smaller]
    if now["offload"] == "none" and not work.config.quantize:
        for place in ("optimizer", "all") if count == 1 else ("all",):
            ways += [{**now, "offload": place}, {**smaller, "offload": place}]
    for how in ways:
        if how != now and fits(count, how):
            return f"fits with {_written(now, how)}"
    found = []
    for more in () if work.config.quantize or now["offload"] == "optimizer" else MORE:
        if more > count and fits(more, smaller):
            found.append(" with ".join(filter(None, (f"on {more} of them", _written(now, smaller)))))
            break
    for lora, settings in _adapters(work, count, now["offload"]):
        adapted = replace(work, config=work.config.model_copy(update={"lora": lora}))
        if possible := [how for how in (now, smaller) if fits(count, how, adapted)]:
            found.append(f"with an adapter: {' '.join(filter(None, (settings, _written(now, possible[0]))))}")
            break
    return f"fits {', or '.join(found)}" if found else "does not fit; take GPUs with more memory"


def _adapters(work: Work, count: int, offload: str) -> list[tuple[LoRAConfig, str]]:
    """Adapters that may be tried, and the settings that make them: beside whole weights, then beside 4 bits, which one device can train."""
    if importlib.util.find_spec("peft") is None:
        return []  # what they keep cannot be tried
    lora = work.config.lora or LoRAConfig()
    found = [] if work.config.lora else [(lora, f"{work.stage}.lora={{}}")]
    if count == 1 and offload != "all" and not lora.quantize:
        found.append((lora.model_copy(update={"quantize": "nf4"}), f"{work.stage}.lora.quantize=nf4"))
    return found


def too_many_looks(planner: Planner, work: Work, operations: float) -> list[str]:
    """Said where looking at the test rows takes more than `LOOKS` of all operations."""
    looked = work.looked - work.reference
    seen = planner.shape.forward_flops(looked, looked * work.predicted, work.seen)
    if work.looks < 3 or seen <= LOOKS * operations:
        return []
    each, rest = seen / work.looks, operations - seen
    affordable = int(LOOKS / (1 - LOOKS) * rest / each)  # looks that take no more than this share; fewer than there are now
    every = _rounded(work.steps / (min(10, affordable) - 1)) if affordable > 2 else work.steps
    return [
        f"{work.looks:,} looks at the test rows take {seen / operations:.0%} of all operations: "
        f"{work.stage}.evaluate_every={every} looks {number_of_looks(work.steps, every)} times"
    ]


def _rounded(n: float) -> int:
    """To one digit, upwards: 1739.6 is 2000."""
    unit = int(10 ** max(0, math.floor(math.log10(max(n, 1)))))
    return math.ceil(n / unit) * unit


def _now(planner: Planner) -> dict[str, Any]:
    train = planner.recipe.train
    return {"recompute": train.activation_checkpointing, "budget": train.micro_batch_tokens, "offload": train.offload}


def _written(now: dict[str, Any], how: dict[str, Any]) -> str:
    """The settings that are not so now, as a command takes them."""
    return " ".join(f"train.{_NAMES[name]}={str(value).lower()}" for name, value in how.items() if value != now[name])


def _limit(kind: Machine) -> float:
    return machines.USABLE * kind.bytes
