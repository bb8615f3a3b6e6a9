"""Two recipes beside each other: what differs, what it means, and what it does to cost.

Compared is what is computed: comments, the order of keys, and values that are written out though they are the default are no
difference; nor are the name, the folder, and what a recipe tells of a model and data that are not at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from zephyr.recipe import Recipe
from zephyr.recipes.cost import cost_of, count
from zephyr.recipes.flat import THERE, Setting, settings
from zephyr.recipes.volume import volumes

NONE = "not there"
ORDERLESS = ("target_modules", "log_to", "by", "filters")  # lists that are sets


def compare(a: Recipe, b: Recipe) -> dict[str, Any]:
    """What differs from `a` to `b`.

    Returns:
        `a`, `b`: their names; `differences`, in the order of a recipe: `section`, `setting`, `before`, `after` (None where it is not
        there), `about` (what the setting means), `cost` (what the difference does to it, "" where nothing general can be said);
        `volumes`: by recipe and training stage, rows, tokens and steps in all.
    """
    was, now = ({s.path: s for s in settings(recipe)} for recipe in (a, b))
    found: list[dict[str, Any]] = []
    for path in _in_order(list(was), list(now)):
        before, after = was.get(path), now.get(path)
        if _value(before, path) == _value(after, path) or _is_inside(path, found):
            continue
        known = after or before
        assert known is not None  # the path is one of theirs
        values = before.value if before else None, after.value if after else None
        listed = path.partition("[")[0] if "[" in path else None  # sources of one list: what they cost is said once, with the first
        cost = "" if listed and any(d["setting"].startswith(f"{listed}[") for d in found) else cost_of(path, *values, a, b)
        section = path.split(".")[0].split("[")[0]
        found.append(
            {"section": section, "setting": path, **dict(zip(("before", "after"), values, strict=True)), "about": known.about, "cost": cost}
        )
    both = {name: {stage: asdict(v) for stage, v in volumes(recipe).items()} for name, recipe in (("a", a), ("b", b))}
    return {"a": a.name, "b": b.name, "differences": found, "volumes": both}


def _value(setting: Setting | None, path: str) -> Any:
    value = None if setting is None else setting.value
    return sorted(value) if isinstance(value, list) and path.endswith(ORDERLESS) else value


def _in_order(was: list[str], now: list[str]) -> list[str]:
    """All paths, each where its recipe has it: what only one of the two has comes after its neighbour there."""
    order = list(now)
    for i, path in enumerate(was):
        if path not in order:
            order.insert(order.index(was[i - 1]) + 1 if i else 0, path)
    return order


def _is_inside(path: str, found: list[dict[str, Any]]) -> bool:
    """A section that is in one recipe alone is one difference, not as many as it has settings."""
    whole = [d["setting"] for d in found if THERE in (d["before"], d["after"]) and None in (d["before"], d["after"])]
    return any(path.startswith((f"{section}.", f"{section}[")) for section in whole)


def describe(found: Mapping[str, Any], a: Recipe, b: Recipe) -> str:
    """In words; `found` is what `compare` says of the two."""
    differences = found["differences"]
    if not differences:
        return f"{found['a']} and {found['b']} compute the same"
    lines = [f"{found['a']} → {found['b']}: {len(differences)} difference{'s' if len(differences) > 1 else ''}"]
    section = ""
    for d in differences:
        if d["section"] != section:
            section = d["section"]
            lines += ["", section]
        whole = "the section" if THERE in (d["before"], d["after"]) else section  # `seed` is none
        name = d["setting"].removeprefix(section).removeprefix(".") or whole
        lines.append(f"  {name}: {_said(d, 'before', a)} → {_said(d, 'after', b)}")
        lines += [f"      {text}" for text in (d["about"], f"cost: {d['cost']}" if d["cost"] else "") if text]
    return "\n".join([*lines, *_sums(found)])


def _said(difference: Mapping[str, Any], side: str, recipe: Recipe) -> str:
    value, path = difference[side], difference["setting"]
    if value != THERE or None not in (difference["before"], difference["after"]):
        return _plain(value)
    if path == difference["section"]:
        return THERE
    # of a source, what its name does not say
    known = ("path", "split", "source_split", "subset", "weight") if path.endswith("]") else ()
    inside = [s for s in settings(recipe) if s.path.startswith(f"{path}.") and s.value not in (None, THERE, [], {})]
    names = [(s.path.removeprefix(f"{path}."), s.value) for s in inside]
    return ", ".join(f"{name} {_plain(v)}" for name, v in names if name not in known) or THERE


def _plain(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _sums(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for stage in ("sft", "dpo"):
        sides = [found["volumes"][side].get(stage) for side in ("a", "b")]
        if any(sides):
            was, now = (_volume(side) for side in sides)
            lines.append(f"{stage} in all: {was}" if was == now else f"{stage} in all: {was} → {now}")
    if lines and sum(bool(d["cost"]) and d["cost"] != "nothing" for d in found["differences"]) > 1:
        lines.insert(0, "each cost above is that of one difference alone; all of them together:")
    return ["", *lines] if lines else []


def _volume(volume: Mapping[str, int | None] | None) -> str:
    if volume is None:
        return NONE
    said = [f"{count(n)} {what}" for what in ("tokens", "steps") if (n := volume[what]) is not None]
    return ", ".join(said) or "not known: the recipe does not say how many rows its data have"
