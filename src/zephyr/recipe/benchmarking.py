"""What `zephyr evaluate MODEL --on …` stands for: the sections of a recipe that measure one model on the benchmarks that are named.

open-llm                      what the recipe names, or the tasks' names on the hub
arc_challenge=FILE            one academic task
ifeval=FILE, ifeval           IFEval on one's own prompts; on the recipe's, or the hub's
preferences=FILE              a preference set, called by its file's name; several may be given
mt-bench, alpaca-eval         as the recipe's section `judge` says, which names a judge
all                           all that the recipe names
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zephyr.errors import UsageError
from zephyr.recipe.known import GROUPS, HUB
from zephyr.recipe.whole import Recipe

# what `--on` takes, and the settings that say how
BENCHMARKS = {
    "mt-bench": "judge.mt_bench",
    "alpaca-eval": "judge.alpaca_eval",
    "ifeval": "judge.ifeval",
    "open-llm": "evaluate.benchmarks",
    "preferences": "evaluate.preferences",
}
# where the rows are if nobody says otherwise
IFEVAL = HUB["ifeval"]["path"]
TASKS = {"arc_challenge" if name == "arc" else name: HUB[name]["path"] for name in GROUPS["open-llm"]}
SUFFIXES = re.compile(r"(\.(jsonl?|parquet|gz|zst|csv))+$")


def sections(on: Sequence[str], given: Recipe | None, where: str) -> dict[str, dict[str, Any]]:
    """The sections `judge` and `evaluate` of the benchmarks that are named; `given` says what a name alone does not.

    Args:
        on: names, or names with files, `NAME=FILE`.
        given: the recipe, if there is one.
        where: what it is called, for errors.

    Raises:
        UsageError: a benchmark that is not known, or of which nothing says where its files are or who judges.
    """
    words = list(on)
    if "all" in words:
        if given is None:
            raise UsageError("--on all: means all that a recipe names; give --recipe, or name the benchmarks")
        words = [word for word in words if word != "all"] + [name for name in BENCHMARKS if _of(given, name) is not None]
        if not words:
            raise UsageError(f"--on all: {where} names no benchmark, neither in `judge` nor in `evaluate`")
    judge: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    for word in words:
        name, eq, path = word.partition("=")
        if name not in BENCHMARKS and name not in TASKS:
            known = ", ".join((*BENCHMARKS, *TASKS, "all"))
            raise UsageError(f"--on {name}: not a benchmark that is known here; known are {known}")
        if eq and (not path or name in ("mt-bench", "alpaca-eval", "open-llm")):
            raise UsageError(f"--on {word}: {_hint(name)}")
        own = _of(given, name) if given and name in BENCHMARKS else None
        if name in ("mt-bench", "alpaca-eval"):
            if own is None:
                setting = BENCHMARKS[name]
                raise UsageError(
                    f"{where}: has no {setting}, which says where its files are and who judges" if given else _needs_judge(name)
                )
            judge[name.replace("-", "_")] = own
        elif name == "ifeval":
            judge["ifeval"] = {**(own or {}), "prompts": path} if eq else own or {"prompts": IFEVAL}
        elif name == "preferences":
            _add_set(evaluate, own, path, word)
        else:
            tasks = own or TASKS if name == "open-llm" else {name: path or _task(given, name)}
            evaluate["benchmarks"] = {**evaluate.get("benchmarks", {}), **tasks}
    return _with_the_rest(judge, evaluate, given)


def _with_the_rest(judge: dict[str, Any], evaluate: dict[str, Any], given: Recipe | None) -> dict[str, dict[str, Any]]:
    """What the recipe says of the judge, limits and sampling, for the benchmarks that were chosen."""
    found: dict[str, dict[str, Any]] = {}
    if judge:
        rest = _without(given.judge.given() if given and given.judge else {}, "mt_bench", "alpaca_eval", "ifeval")
        # a recipe that names no model of the run's asks its endpoints alone
        found["judge"] = {**rest, **judge, "models": [] if rest.get("models") == [] else ["base"]}
    if evaluate:
        rest = _without(given.evaluate.given() if given and given.evaluate else {}, "benchmarks", "fewshot", "preferences")
        shots = given.evaluate.given().get("fewshot", {}) if given and given.evaluate else {}
        wanted = evaluate.get("benchmarks", {})
        fewshot = {task: path for task, path in shots.items() if task in wanted}
        found["evaluate"] = {**rest, **evaluate, **({"fewshot": fewshot} if fewshot else {}), "samples": 0}
    return found


def _without(section: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in names}


def _of(given: Recipe, name: str) -> Any:
    """What a recipe says of a benchmark; None where that is nothing."""
    section, _, key = BENCHMARKS[name].partition(".")
    values = getattr(given, section)
    return values.given().get(key) or None if values else None


def _task(given: Recipe | None, name: str) -> str:
    """The file of an academic task that is named without one: the recipe's, or its name on the hub."""
    return str(((_of(given, "open-llm") if given else None) or {}).get(name, TASKS[name]))


def _add_set(evaluate: dict[str, Any], own: Any, path: str, word: str) -> None:
    """A preference set, beside those there are; without a file, those of the recipe."""
    if not path and not (own or {}).get("sets"):
        raise UsageError(f"--on {word}: {_hint('preferences')}")
    so_far = evaluate.get("preferences") or _without(own or {}, "sets")
    sets = dict(so_far.get("sets", {}))
    if not path:
        sets.update(own["sets"])
    else:
        label = re.sub(r"[^A-Za-z0-9._-]+", "-", SUFFIXES.sub("", Path(path).name)).lstrip("._-") or "set"
        if label in sets:
            raise UsageError(f"--on {word}: a second set called {label}; name them in a recipe, evaluate.preferences.sets.NAME: FILE")
        sets[label] = path
    evaluate["preferences"] = {**so_far, "sets": sets}


def _hint(name: str) -> str:
    return {
        "mt-bench": _needs_judge("mt-bench"),
        "alpaca-eval": _needs_judge("alpaca-eval"),
        "open-llm": "is four tasks; name those whose files you have, as arc_challenge=FILE",
        "preferences": "needs a file of pairs or rated answers, preferences=FILE",
    }.get(name, f"needs a file, {name}=FILE")


def _needs_judge(name: str) -> str:
    return f"{name} is judged by a teacher; give --recipe with a section `judge`, which names it and the benchmark's files"
