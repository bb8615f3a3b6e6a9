"""MT-Bench results in words and columns; no number stands without its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zephyr.records import Row


def describe(results: Mapping[str, Row]) -> str:
    """What `zephyr score mt-bench` prints."""
    pairs = any("win_rate" in result for result in results.values())
    lines = _pairs(results) if pairs else _singles(results)
    first = next(iter(results.values()))
    lines += ["", f"Judge: {', '.join(first['judge'])}. In brackets: 95% intervals, clustered by question."]
    if first["compatible"]:
        lines.append("Verdicts parsed and averaged as FastChat does (--compatible).")
    return "\n".join(lines)


def _singles(results: Mapping[str, Row]) -> list[str]:
    lines = []
    for model, r in results.items():
        lines.append(f"{model}: {_number(r['score'], r['ci95'])} over {r['n']} judgments of {r['n_questions']} questions")
        lines.append(f"  turn 1 {_number(r['turn_1'], r['turn_1_ci95'])}, turn 2 {_number(r['turn_2'], r['turn_2_ci95'])}")
        lines += [f"  {name:12} {_number(value, r['by_category_ci95'][name])}" for name, value in r["by_category"].items()]
        if r["n_unparsed"]:
            filled = [f"{name} {_number(v['score'], v['ci95'])}" for name, v in r["unparsed_as"].items()]
            lines.append(f"  {r['n_unparsed']} without a verdict: {', '.join(filled)}")
        if again := r["repeated_judging"]:
            lines.append(
                f"  judged again: a verdict moves by {_number(again['verdict_sd'], again['verdict_sd_ci95'])} (standard deviation, "
                f"{again['cells']} turns), which moves the score by {_number(again['score_sd'], again['score_sd_ci95'])}"
            )
    names = list(results)
    # of many models each beside the next one; --json has every pair
    near = len(names) if len(names) <= 3 else 1
    compared = [
        against["in_words"] + _longer(against["longer_is_better"])
        for i, r in enumerate(results.values())
        for other in names[i + 1 : i + 1 + near]
        if (against := r["against"][other]) is not None
    ]
    return [*lines, "", *compared] if compared else lines


def _pairs(results: Mapping[str, Row]) -> list[str]:
    lines = []
    for model, r in results.items():
        lines.append(
            f"{model}: wins {_number(r['win_rate'], r['ci95'], '%')} of {r['n']} pairs "
            f"({r['wins']} won, {r['losses']} lost, {r['ties']} tied)"
        )
        lines += [f"  {name:12} {_number(value, r['by_category_ci95'][name], '%')}" for name, value in r["by_category"].items()]
        o = r["order"]
        lines.append(
            f"  both orders agree in {_number(o['consistent'], o['consistent_ci95'], '%')}; the answer shown first has "
            f"{_number(o['first_shown_wins'], o['first_shown_wins_ci95'], '%')} of the decided verdicts "
            f"(both times the first {o['first_both_times']}, both times the second {o['second_both_times']})"
        )
        if longer := r.get("longer_wins"):
            lines.append(f"  the longer answer wins {_number(longer['share'], longer['ci95'], '%')} of {longer['n']} decided pairs")
        if r["n_unparsed"]:
            filled = [f"{name} {_number(v['win_rate'], v['ci95'], '%')}" for name, v in r["unparsed_as"].items()]
            lines.append(f"  {r['n_unparsed']} without two verdicts: {', '.join(filled)}")
    return lines


def _longer(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return (
        f"; the longer answer has the higher score in {_number(100 * found['share'], _percent(found['ci95']), '%')} of {found['n']} turns"
    )


def _percent(ci: list[float] | None) -> list[float] | None:
    return None if ci is None else [100 * end for end in ci]


def _number(value: float | None, ci: list[float] | None, unit: str = "") -> str:
    if value is None:
        return "none"
    digits = 1 if unit else 2
    return f"{value:.{digits}f}{unit} " + (f"[{ci[0]:.{digits}f}, {ci[1]:.{digits}f}]" if ci else "[no interval: one question]")
