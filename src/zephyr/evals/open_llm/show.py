"""Scores from files of lm-eval in words; no number stands without its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.records import Row


def describe(r: Row) -> str:
    """What `zephyr score open-llm` prints."""
    lines = _model(r["model"], r["benchmarks"])
    if other := r.get("against"):
        lines += ["", *_model(other["model"], other["benchmarks"]), ""]
        gaps = {name: one["against"] for name, one in r["benchmarks"].items() if "against" in one}
        lines += [f"{name}: {gap['in_words'] if gap else 'no paired difference'}" for name, found in gaps.items() for gap in found.values()]
    return "\n".join([*lines, "", "In brackets: 95% intervals over items."])


def _model(model: str, benchmarks: Mapping[str, Row]) -> list[str]:
    lines = [model]
    for name, one in benchmarks.items():
        shots = "" if not one["num_fewshot"] else f", {one['num_fewshot']} examples"
        error = "" if one["stderr"] is None else f", standard error {100 * one['stderr']:.2f}"
        lines.append(f"  {name:14} {_percent(one)} {one['metric']} over {one['n']:,} items{shots}{error}")
        if "value_by_item" in one:
            whole = {"value": one["value_by_item"], "ci95": one["ci95_by_item"]}
            lines.append(f"    the mean of {len(one['subjects'])} subjects; each item of equal weight: {_percent(whole)}")
        lines += [f"    {subject:36} {_percent(part)} over {part['n']}" for subject, part in one.get("subjects", {}).items()]
    return lines


def _percent(one: Mapping[str, Any]) -> str:
    ends = one["ci95"]
    return f"{100 * one['value']:.1f}% " + (f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]" if ends else "(no interval)")
