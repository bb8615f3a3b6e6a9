"""A recipe in full: every setting that is read, by default or set, each with its sentence. It can be run as it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from zephyr.recipe import Recipe, Section
from zephyr.recipes.flat import is_read
from zephyr.recipes.meaning import meaning_of


def shown(recipe: Recipe) -> str:
    """The recipe as YAML, defaults written out."""
    return "\n".join(_lines(recipe, "")) + "\n"


def _lines(section: Section, indent: str) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if _is_left_out(section, name):
            continue
        if not indent and isinstance(value, Section):
            yield ""
        if about := meaning_of(type(section), name):
            yield f"{indent}# {about}"
        if isinstance(value, Section):
            inside = list(_lines(value, f"{indent}  "))
            yield f"{indent}{name}:" if any(not line.lstrip().startswith("#") for line in inside) else f"{indent}{name}: {{}}"
            yield from inside
        else:
            yield f"{indent}{name}: {_inline(value)}"


def _inline(value: Any) -> str:
    """JSON is YAML; a number keeps the form in which YAML reads it as one."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        given = value.model_fields_set | {"kind"}
        names = [name for name in type(value).model_fields if name in given and not _is_left_out(value, name)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _is_left_out(section: Section, name: str) -> bool:
    """What another objective reads, and what is unset by default; `null` where a value stands by default says something."""
    return not is_read(section, name) or (getattr(section, name) is None and type(section).model_fields[name].default is None)
