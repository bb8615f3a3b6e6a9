"""All that a run will ask of teachers behind servers: the sums, the budget, and the same in words."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zephyr.artifacts import Draft, Manifest
from zephyr.recipe import Recipe
from zephyr.spending import benchmarks, dialogues, feedback
from zephyr.teachers import journal
from zephyr.teachers.journal import peek


def plan(recipe: Recipe, run_dir: Path) -> dict[str, Any]:
    """What the run will ask of teachers behind servers: a line each, the sums, and the budget. Nothing is written or sent.

    Raises:
        ZephyrError: prompts cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        draft = Draft(Path(scratch), run_dir / "plan", Manifest("plan", "", {}, {}))
        lines = dialogues.of_synthesize(recipe, run_dir, draft)
        lines += [*feedback.of_complete(recipe, run_dir, draft), *feedback.of_rate(recipe, run_dir, draft)]
        lines += [*benchmarks.of_answer(recipe, run_dir), *benchmarks.of_judge(recipe, run_dir)]
    known = [line.usd for line in lines]
    most = [line.usd_most for line in lines]
    spent = peek.totals(run_dir / journal.NAME)
    return {
        "lines": [asdict(line) for line in lines],
        "calls": sum(line.calls for line in lines),
        "usd": None if None in known else sum(filter(None, known)),
        "usd_most": None if None in most else sum(filter(None, most)),
        "spent_usd": spent.spent / journal.NANO,
        "possibly_spent_usd": (spent.maybe + spent.reserved) / journal.NANO,
        "spent_calls": spent.calls,
        "budget": recipe.budget.model_dump(),
    }


def describe(found: Mapping[str, Any]) -> str:
    """In words."""
    if not found["lines"]:
        return "no teacher behind a server will be asked: nothing is spent"
    rows = [("stage", "teacher", "calls", "kept", "tokens sent", "tokens back", "about", "at most")]
    for line in found["lines"]:
        back = f"≤ {line['completion_tokens_most']:,}" if line["completion_tokens"] is None else f"{line['completion_tokens']:,}"
        counts = f"{line['calls']:,}", f"{line['kept']:,}", f"{line['prompt_tokens']:,}", back
        rows.append((line["stage"], line["teacher"], *counts, _usd(line["usd"]), _usd(line["usd_most"])))
    rows.append(("in all", "", f"{found['calls']:,}", "", "", "", _usd(found["usd"]), _usd(found["usd_most"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    lines += list(dict.fromkeys(f"{line['stage']}: {line['guess']}" for line in found["lines"] if line["guess"]))
    if found["spent_calls"]:
        maybe = f", perhaps {_usd(found['possibly_spent_usd'])} more" if found["possibly_spent_usd"] else ""
        lines.append(f"so far: {found['spent_calls']:,} calls, {_usd(found['spent_usd'])}{maybe}")
    return "\n".join([*lines, *_against_budget(found)])


def _against_budget(found: Mapping[str, Any]) -> list[str]:
    usd, calls = found["budget"]["usd"], found["budget"]["calls"]
    said = []
    spent = found["spent_usd"] + found["possibly_spent_usd"]
    if usd is not None and found["usd_most"] is not None and spent + found["usd_most"] > usd:
        surely = found["usd"] is not None and spent + found["usd"] > usd
        said.append(
            f"the budget of {_usd(usd)} {'will' if surely else 'may'} be reached before the end: the run stops there, and goes on with more"
        )
    if calls is not None and found["spent_calls"] + found["calls"] > calls:
        said.append(f"the budget of {calls:,} calls will be reached before the end: the run stops there, and goes on with more")
    return said


def _usd(value: float | None) -> str:
    return "not known" if value is None else f"${value:,.2f}" if value >= 0.1 or value == 0 else f"${value:.4f}"
