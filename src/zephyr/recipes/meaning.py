"""What a setting means: the comment that stands above it in the code that defines it, so that it is said in one place only."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from zephyr.recipe import Section


def meaning_of(section: type[Section], setting: str) -> str:
    """The sentence above a setting, be it in a section that this one is derived from; of one that is a section, else that section's own."""
    for kind in section.__mro__:
        if issubclass(kind, Section) and (found := _comments(kind).get(setting)):
            return found
    inner = next(sections_in(section.model_fields[setting].annotation), None)
    return title_of(inner) if inner else ""


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """The kinds of section that a setting may hold, itself or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def title_of(section: type[Section]) -> str:
    """What a section is: the first sentence of its docstring."""
    return (inspect.getdoc(section) or "").split("\n")[0].rstrip(".")


@functools.cache
def _comments(section: type[Section]) -> dict[str, str]:
    """By name, the comment lines directly above the fields of a class.

    The source travels with the package; where a distribution has left it out, settings have no sentences.
    """
    try:
        source = textwrap.dedent(inspect.getsource(section))
    except OSError:
        return {}
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _above(lines, node.lineno - 1)
    return found


def _above(lines: list[str], at: int) -> str:
    first = at
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip().removeprefix("#").strip() for line in lines[first:at])
