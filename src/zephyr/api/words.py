"""A result in words: what a command prints without `--json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr import pipeline
from zephyr.api.base import Result


def describe(result: Result) -> str:
    """A result in words."""
    return "\n".join(_of_run(result) if "artifacts" in result else _of_stage(result))


def _of_stage(result: Result) -> list[str]:
    lines = [f"{result['stage']}: {result['status']}, {result['path']}"]
    rows_in = result["rows_in"]
    lines += [f"  {result['reason']}, {rows_in:,} row{'s' if rows_in != 1 else ''}"] if result["status"] == pipeline.WOULD_RUN else []
    lines += [f"  {_rows_of(n, split, result['results'].get('dialogues'))}" for split, n in result["rows"].items()]
    lines += [f"  dropped, {reason}: {n}" for reason, n in result["dropped"].items()]
    found = _scores(result["results"]) if result["stage"] == "evaluate" else []
    said = {line.rstrip(".") for line in found}
    lines += [f"  {note}" for note in result["notes"] if note.rstrip(".") not in said]
    return lines + [f"  {line}" for line in found]


def _rows_of(n: int, split: str, dialogues: object) -> str:
    """How many rows of a split; several dialogues that are packed to a sequence are no row."""
    said = pipeline.rows_in_words(n, split, dialogues)
    return said if said != f"{n} {split}" else f"{split}: {n} row{'s' if n != 1 else ''}"


def _of_run(result: Result) -> list[str]:
    from zephyr.evals import in_words

    lines = [f"{name:10} {a['status']:9} {a['reason']}" for name, a in result["artifacts"].items()]
    lines += _scores(result["scores"] or {})
    lines += [line for line in in_words.judged(result["judged"] or {}) if line not in lines]
    lines += [f"{what}: {result[what]}" for what in ("model", "report") if result[what]]
    return lines


def _scores(scores: Mapping[str, Any]) -> list[str]:
    from zephyr.evals import in_words

    lines = []
    for model, nll in scores.get("nll", {}).items():
        lines.append(f"test NLL per token, {model}: {nll['nll_per_token']:.4f} {_interval(nll['ci95'], 4)} ({nll['template']} template)")
    for name, a in scores.get("reward_accuracy", {}).items():
        interval = _interval(a["ci95"], 3)
        lines.append(f"test reward accuracy, {name}: {a['accuracy']:.3f} {interval} over {a['pairs']} pairs of {a['prompts']} prompts")
    return lines + in_words.scores(scores)


def _interval(ends: Sequence[float] | None, digits: int) -> str:
    return f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else "(no interval)"
