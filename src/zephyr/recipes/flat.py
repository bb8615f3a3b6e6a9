"""A recipe as a list of settings, defaults among them, in the order in which a recipe is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zephyr.recipe import READ_BY, DataSource, ModelConfig, Recipe, Section
from zephyr.recipes.meaning import meaning_of, sections_in

# what a recipe is called and where it writes, and what it says of things that are not at hand: nothing is computed otherwise
ASIDE: dict[type[Section], set[str]] = {Recipe: {"name", "out"}, ModelConfig: {"shape"}, DataSource: {"rows", "tokens"}}
THERE = "there"  # the value of a section that is there


@dataclass(frozen=True)
class Setting:
    """One setting of a recipe.

    Args:
        path: where it stands: `dpo.beta`, `curate.data[owner/name:train_sft].weight`.
        value: as JSON has it; `THERE` for a section that is there, None for one that is not.
        about: what it means, in a sentence.
    """

    path: str
    value: Any
    about: str


def settings(recipe: Recipe) -> list[Setting]:
    """All that are read, by default or set."""
    return list(_flat(recipe, ""))


def is_read(section: Section, name: str) -> bool:
    """Whether a setting plays a part: some belong to one objective alone."""
    return READ_BY.get(name) in (None, getattr(section, "objective", None))


def _flat(section: Section, prefix: str) -> Iterator[Setting]:
    for name in type(section).model_fields:
        value, may_hold = getattr(section, name), list(sections_in(type(section).model_fields[name].annotation))
        is_empty = value in ([], {}) and may_hold  # no source: nothing to be listed
        if not is_empty and name not in ASIDE.get(type(section), set()) and is_read(section, name):
            yield from _each(f"{prefix}{name}", value, meaning_of(type(section), name))


def _each(path: str, value: Any, about: str) -> Iterator[Setting]:
    if isinstance(value, Section):
        yield Setting(path, THERE, about)
        yield from _flat(value, f"{path}.")
    elif isinstance(value, Mapping) and any(isinstance(item, Section) for item in value.values()):
        for name, item in value.items():
            yield from _each(f"{path}.{name}", item, about)
    elif isinstance(value, list) and any(isinstance(item, Section) for item in value):
        for label, item in _labelled(value):
            yield from _each(f"{path}[{label}]", item, about)
    else:
        yield Setting(path, value, about)


def _labelled(items: list[Any]) -> Iterator[tuple[str, Any]]:
    """Sources by what they are, not by where they stand in a list: the same source in another place is no difference."""
    seen: dict[str, int] = {}
    for i, item in enumerate(items):
        label = str(i)
        if isinstance(item, DataSource):
            label = ":".join(filter(None, (item.path, item.subset, item.source_split or item.split)))
        seen[label] = seen.get(label, 0) + 1
        yield label if seen[label] == 1 else f"{label} #{seen[label]}", item
