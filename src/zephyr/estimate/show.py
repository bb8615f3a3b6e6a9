"""The plan of a training in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zephyr.estimate.machines import GIB

KINDS_FOR = 3  # numbers of devices up to which bytes are shown by kind for each


def describe(found: Mapping[str, Any]) -> str:
    """A table of the ways to run it, and what they rest on."""
    lines = [f"training of {found['model']}: {found['parameters']:,} parameters{_adapters(found)}"]
    for stage in found["stages"]:
        lines.append(
            f"  {stage['stage']}: {stage['rows']:,} rows, {stage['tokens']:,} tokens in {stage['steps']:,} steps, "
            f"{stage['looked_tokens']:,} tokens looked at, {stage['flops']:.2e} floating-point operations"
        )
    lines += [f"  {name}: not known yet, what it learns from is not made" for name in found["unknown"]]
    if not found["stages"]:
        return "\n".join(lines)
    lines += ["", *_table(found), ""]
    for stage in found["stages"]:
        lines += _kinds(stage)
    for here in found["here"] or ():
        lines.append(
            f"  {here['stage']} on this machine ({here['device']}), measured: {here['tokens_per_second']:,.0f} tokens/s, "
            f"{here['flops_per_second'] / 1e12:.3g} TFLOP/s, {_time(here['seconds'])}, at most {here['peak_bytes'] / GIB:.2f} GiB"
        )
    for stage in found["stages"]:
        lines += [f"  {stage['stage']}, {line}" for line in stage["advice"]]
    return "\n".join([*lines, "assumed:", *(f"  {line}" for line in found["assumptions"])])


def _adapters(found: Mapping[str, Any]) -> str:
    """How many weights learn, where they are not all."""
    stages: dict[int, list[str]] = {}
    for stage in found["stages"]:
        if stage["trained_parameters"] != found["parameters"]:
            stages.setdefault(stage["trained_parameters"], []).append(stage["stage"])
    return "".join(f", {trained:,} weights trained in {' and '.join(names)}" for trained, names in stages.items())


def _kinds(stage: Mapping[str, Any]) -> Iterator[str]:
    """What a device holds, by kind, which is the same on each GPU: a line for each number of devices on which it would begin, if few."""
    ways = {way["devices"]: way for way in stage["ways"] if not way["refused"]}
    shown = list(ways.values()) if len(ways) <= KINDS_FOR else list(ways.values())[:1]
    for way in shown:
        kinds = ", ".join(f"{name.replace('_', ' ')} {n / GIB:.1f}" for name, n in way["bytes"].items() if name != "peak")
        more = "" if len(shown) == len(ways) else " (--json has the others)"
        yield f"  {stage['stage']} on {way['devices']}, GiB a device{more}: {kinds}"


def _table(found: Mapping[str, Any]) -> list[str]:
    """A row for each number of devices of each kind; a stage has its peak, whether it fits, and its hours."""
    stages = found["stages"]
    rows = [["GPUs", *(text for s in stages for text in (f"{s['stage']} GiB each", "fits", "time")), "all"]]
    for i, way in enumerate(stages[0]["ways"]):
        row = [f"{way['devices']} x {way['gpu']}"]
        ways = [s["ways"][i] for s in stages]
        for w in ways:
            if w["refused"]:
                row += ["-", "-", "-"]
            else:
                row += [f"{w['peak_bytes'] / GIB:.1f}", "yes" if w["fits"] else "no", _time(3600 * w["hours"])]
        rows.append([*row, _time(3600 * sum(w["hours"] for w in ways)) if all(w["fits"] for w in ways) else "-"])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
