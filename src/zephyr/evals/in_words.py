"""What benchmarks came to, a line each: no number without its interval, and what has to be known before it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.artifacts import Manifest
from zephyr.evals import hygiene, preference_scores
from zephyr.evals.asks import CANARY
from zephyr.evals.counts import agree
from zephyr.evals.ifeval.score import INSTRUCTION_LOOSE, INSTRUCTION_STRICT, PROMPT_LOOSE, PROMPT_STRICT
from zephyr.evals.statistics import Difference

IFEVAL = {
    PROMPT_STRICT: "prompts, strict",
    INSTRUCTION_STRICT: "instructions, strict",
    PROMPT_LOOSE: "prompts, loose",
    INSTRUCTION_LOOSE: "instructions, loose",
}
_COUNTED = {"mt_bench": ("questions", 1.0, 2), "alpaca_eval": ("instructions", 1.0, 1)}
NOT_LOOKED = "whether any of this was trained on is not known: name the training data, --trained-on FILE (or trained_on in the recipe)"


def judged(found: Mapping[str, Any]) -> list[str]:
    """What the stage `judge` found; what answers that say nothing got stands among it, as `canary`."""
    by = f", judged by {found['judge']}" if found.get("judge") else ""
    lines = []
    names = found.get("names") or {}
    for name, key, unit in (("mt_bench", "score", "of 10"), ("mt_bench_pairs", "win_rate", "%"), ("alpaca_eval", "win_rate", "%")):
        for model, one in (found.get(name) or {}).items():
            lines += _verdicts(name, names.get(model, model), {**one, "against": _called(one, names)}, key, unit, by)
        lines += apart(name.replace("_", "-"), found.get(name) or {}, names, *_COUNTED[name]) if name in _COUNTED else []
    for model, one in (found.get("ifeval") or {}).items():
        lines += [f"ifeval, {names.get(model, model)}: {_share(one[key])} of {label}" for key, label in IFEVAL.items()]
        lines += (
            [f"  {one['n_empty']} of {one['n_prompts']} responses {agree(one['n_empty'], 'is', 'are')} empty"] if one["n_empty"] else []
        )
    lines += apart("ifeval", found.get("ifeval") or {}, names, "prompts", 100.0, 1)
    lines += [*hygiene.warnings(found), *(found.get("self_preference") or ()), *(found.get("family_unknown") or ())]
    return lines + contamination(found)


def apart(
    what: str, by_model: Mapping[str, Any], names: Mapping[str, str], counted: str = "items", factor: float = 100.0, digits: int = 1
) -> list[str]:
    """Whether two models can be told apart, a line for each pair of them whose paired difference is known.

    Args:
        what: was measured.
        by_model: the results; those of a pair are under `against` of the first of them that has the other there.
        names: what models are called, where that is not what they are known under.
        counted: what the difference is over.
        factor: from the difference's unit to that of the sentence.
        digits: of the sentence.
    """
    lines, seen = [], set()
    for model, one in by_model.items():
        against = one.get("against")
        for other, gap in against.items() if isinstance(against, Mapping) else ():
            if gap is None or CANARY in (model, other) or frozenset((model, other)) in seen:
                continue
            seen.add(frozenset((model, other)))
            told = Difference.of_json(gap).times(factor)
            lines.append(f"{what}: {told.words(names.get(model, model), names.get(other, other), what=counted, digits=digits)}")
    return lines


def _called(one: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    return [names.get(model, model) for model in one.get("against") or ()]


def _verdicts(name: str, model: str, one: Mapping[str, Any], key: str, unit: str, by: str) -> list[str]:
    what = name.replace("_", "-")
    unread = one.get("n_unparsed", one.get("n_null"))
    against = f" against {', '.join(one['against'])}" if name == "mt_bench_pairs" else ""
    if one[key] is None:
        return [f"{what}, {model}{against}: none of {unread} verdicts could be read"]
    pairs, verdicts = agree(unread or 0, "pair lacks", "pairs lack"), agree(unread or 0, "verdict", "verdicts")
    counted = f"{pairs} a verdict" if name == "mt_bench_pairs" else f"{verdicts} could not be read"
    lines = [f"{what}, {model}{against}: {_number(one[key], one['ci95'], unit)}{by}" + (f"; {unread} {counted}" if unread else "")]
    order = one.get("order") or {}
    if order.get("consistent") is not None and order.get("n"):
        lines.append(
            f"  both orders agree in {_number(order['consistent'], order['consistent_ci95'], '%')} of {order['n']} pairs" + _first(order)
        )
    return lines


def _first(order: Mapping[str, Any]) -> str:
    """What the place did: a judge without a liking for one has a half in it."""
    if order.get("first_shown_wins") is not None:
        share = _number(order["first_shown_wins"], order["first_shown_wins_ci95"], "%")
        return f"; of the decided verdicts {share} are for the answer shown first"
    if order.get("win_rate_shown_first") is None or order.get("win_rate_shown_second") is None:
        return ""
    sides = (_number(order[f"win_rate_shown_{side}"], order[f"win_rate_shown_{side}_ci95"], "%") for side in ("first", "second"))
    return "; shown first it wins {}, shown second {}".format(*sides)


def scores(found: Mapping[str, Any]) -> list[str]:
    """What the stage `evaluate` found of benchmarks that others have made."""
    lines = []
    names = found.get("names") or {}
    for task, by_model in (found.get("benchmarks") or {}).items():
        for model, one in by_model.items():
            interval = f"[{100 * one['ci95'][0]:.1f}, {100 * one['ci95'][1]:.1f}]" if one["ci95"] else "(no interval)"
            n = one["num_fewshot"]
            shots = "" if not n else f", the first {n} examples" if one["sampler"] == "first_n" else f", {n} examples drawn"
            lines.append(
                f"{task}, {names.get(model, model)}: {100 * one['value']:.1f}% {interval} {one['metric']} over {one['n']} items{shots}"
            )
            lines += _examples(one)
        lines += apart(task, by_model, names)
    for name, one in (found.get("preferences") or {}).items():
        first = next(iter(one["results"].values()))
        lines.append(
            f"preferences {name}: {first['pairs']} pairs of {first['prompts']} prompts; how often the better answer has the higher value"
        )
        set_against = [(names.get(model, model), names.get(before, before)) for model, before in one["against"].items() if before]
        lines += [f"  {model} is set against {before}" for model, before in set_against]
        lines += preference_scores.measured(one, names)
    return lines + contamination(found)


def _examples(one: Mapping[str, Any]) -> list[str]:
    """What has to be known of an academic task's examples before its number is set beside another."""
    lines = (
        ["  its examples are other items of the same rows: name rows of their own in `fewshot`"] if one.get("examples_from_items") else []
    )
    if one.get("excluded"):
        lines.append(f"  left out, as they are among the examples: {one['excluded']} items")
    if one.get("truncated"):
        lines.append(f"  longer than the model takes, so that the beginning is lost: the prompts of {one['truncated']} of {one['n']} items")
    return lines


def notes(result: Mapping[str, Any], *, shown: bool = True) -> list[str]:
    """What the stages of a measurement have noted.

    Args:
        result: of `api.benchmark`.
        shown: the lines of `judged` and `scores` are shown beside; what they say is left out.
    """
    lines = [*judged(result["judged"] or {}), *scores(result["scores"] or {})] if shown else []
    said = {line.rstrip(".") for line in lines}
    manifests = [Manifest.read(Path(artifact["path"])) for artifact in result["artifacts"].values()]
    found = dict.fromkeys(note for manifest in manifests if manifest for note in manifest.notes)
    return [note for note in found if note.rstrip(".") not in said]


def contamination(found: Mapping[str, Any]) -> list[str]:
    """How much of each benchmark was trained on, where it was looked for."""
    if "contamination" not in found:
        return []
    return [NOT_LOOKED] if found["contamination"] is None else [one["in_words"] for one in found["contamination"].values()]


def _number(value: float, ci: Sequence[float] | None, unit: str) -> str:
    text = f"{value:.2f}{'' if unit == '%' else ' '}{unit}"
    return f"{text} [{ci[0]:.2f}, {ci[1]:.2f}]" if ci else f"{text} (no interval)"


def _share(value: Mapping[str, Any]) -> str:
    return _number(100 * value["value"], None if value["ci95"] is None else [100 * end for end in value["ci95"]], "%")
