"""Settings read from YAML: typed sections, errors that name the line and suggest the right key.

Values are checked strictly (no text becomes a number, no number a text), and what YAML would read in a way that nobody meant
is an error or is read as it looks.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from zephyr.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)
# the line of every key; 0 for one that an override set
Lines = dict[tuple[str | int, ...], int]
OVERRIDDEN = 0
# inside of a key, in its place among the lines: nothing stands behind it, not even `null`
EMPTY = -1


MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, less three of its traps.

    `5e-7` is a number; `010` and `1:30` are none (it would read 8 and 90); a key given twice is an error.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+|[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"), list("-+0123456789"))


def _construct(loader: _Loader, node: yaml.Node, lines: Lines, at: tuple[str | int, ...], file: str) -> Any:
    lines[at] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if key_node.tag == MERGE else _scalar(loader, key_node, file)
            line = key_node.start_mark.line + 1
            if key_node.tag == MERGE:
                raise UsageError(f"{file}, line {line}: merge keys (`<<`) are not read; write the keys out")
            if not isinstance(key, str):
                raise UsageError(f"{file}, line {line}: the key {key!r} is not a text; put it in quotes")
            if key in result:
                raise UsageError(f"{_dotted((*at, key))}: given twice ({file}, lines {lines[(*at, key)]} and {line}); keep one")
            result[key] = _construct(loader, value_node, lines, (*at, key), file)
            lines[(*at, key)] = line
            if isinstance(value_node, yaml.ScalarNode) and not value_node.value and result[key] is None:
                lines[(*at, key, EMPTY)] = line
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, child, lines, (*at, i), file) for i, child in enumerate(node.value)]
    return _scalar(loader, node, file)


def _scalar(loader: _Loader, node: yaml.Node, file: str) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except ValueError:  # a date that no calendar has, `!!int abc`
        raise UsageError(
            f"{file}, line {node.start_mark.line + 1}: {_short(node.value)} cannot be read as what it looks like; quote it"
        ) from None


def parse_yaml(text: str, file: str) -> tuple[Any, Lines]:
    """The value of one YAML document and the line of every key in it."""
    lines: Lines = {}
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UsageError(f"{file}, line {line}: the character {chr(error.character)!r} is not allowed in YAML; remove it") from None
    try:
        node = loader.get_single_node()
        return (None if node is None else _construct(loader, node, lines, (), file)), lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
        where = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{file}{where}: not valid YAML ({problem})") from None
    except RecursionError:
        raise UsageError(f"{file}: nested too deep, or an alias that holds itself; a recipe is sections of keys") from None
    finally:
        loader.dispose()


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _known_keys(model: type[BaseModel], path: Sequence[str | int], kinds: Sequence[str]) -> list[str]:
    """The keys a section at `path` may have; `kinds` says which of several kinds a section is, where it may be."""
    found = _sections_at(model, path, kinds)
    return list(found[0].model_fields) if found else []


def _sections_at(model: type[BaseModel], path: Sequence[str | int], kinds: Sequence[str]) -> list[type[BaseModel]]:
    """What a section at `path` may be, walking the annotations."""
    found: list[type[BaseModel]] = [model]
    for part in path:
        if not isinstance(part, int) and found and part in found[0].model_fields:
            leaves = _leaves(found[0].model_fields[part].annotation)
            found = [t for t in leaves if isinstance(t, type) and issubclass(t, BaseModel)]
            found = [t for t in found if "kind" in t.model_fields and set(_leaves_of_literal(t)) & set(kinds)] or found
    return found


def _hint(key: str, known: list[str], model: type[BaseModel]) -> str:
    """What was meant by a key that is not known: a short form (`lr`), a near one, the same key elsewhere, or the closest."""
    one = [name for name, field in model.model_fields.items() if typing.get_origin(field.annotation) not in (dict, list)]
    elsewhere = [key] * (key in model.model_fields) + [f"{section}.{key}" for section in one if key in _known_keys(model, [section], [])]
    meant = [name for name in known if len(key) > 1 and key == "".join(word[:1] for word in name.split("_"))]
    meant = meant or difflib.get_close_matches(key, known, n=1, cutoff=0.8) or elsewhere
    meant = meant or difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {' or '.join(meant)}?" if meant else f"known keys: {', '.join(known)}"


def _leaves_of_literal(section: type[BaseModel]) -> tuple[Any, ...]:
    return getattr(section.model_fields["kind"].annotation, "__args__", ())


def _given_path(loc: Sequence[str | int], values: object) -> tuple[tuple[str | int, ...], list[str]]:
    """(the path of a mistake in what was given, the kinds of the sections on the way): pydantic puts a section's kind into its path."""
    path: list[str | int] = []
    kinds: list[str] = []
    current = values
    for part in loc:
        if part == "[key]":  # the key itself is wrong, which is where the path ends anyway
            continue
        if isinstance(current, Mapping) and part not in current and current.get("kind") == part and len(path) < len(loc) - 1:
            kinds.append(str(part))
            continue
        path.append(part)
        inside = isinstance(current, Mapping) and part in current
        inside = inside or (isinstance(current, list) and isinstance(part, int) and part < len(current))
        current = current[part] if inside else None  # type: ignore[index]  # `inside` says that it can be indexed
    return tuple(path), kinds


def _leaves(annotation: Any) -> list[Any]:
    args = getattr(annotation, "__args__", None)
    return [annotation] if not args else [leaf for arg in args for leaf in _leaves(arg)]


def _explain(error: ValidationError, values: object, lines: Mapping[tuple[str | int, ...], int], file: str, model: type[BaseModel]) -> str:
    messages = []
    for item in error.errors():
        path, kinds = _given_path(item["loc"], values)
        kind, given = item["type"], item.get("input")
        text = str(item["ctx"]["error"]) if kind == "value_error" and "ctx" in item else item["msg"]
        # what the recipe as a whole finds wrong starts with the section it is about
        place = path or (text.partition(":")[0],)
        where = _where(next((lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines), None), file)
        name = _dotted(path) or "the recipe"
        if kind == "extra_forbidden":
            messages.append(f"{name}: unknown key; {_hint(str(path[-1]), _known_keys(model, path[:-1], kinds), model)}{where}")
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            known_kinds = str(item["ctx"].get("expected_tags", "")).replace("'", "")
            what = f"{_short(item['ctx']['tag'])} is not known" if "tag" in item["ctx"] else "is required and not there"
            hint = f"; known are {known_kinds}" if known_kinds else ""
            messages.append(f"{name + '.' if path else ''}kind: {what}{hint}{where}")
        elif kind == "missing":
            messages.append(f"{name}: is required and not there{where}")
        elif kind == "finite_number":
            messages.append(f"{name}: is {given}; a finite number is needed{where}")
        elif kind == "value_error":
            messages.append(f"{name + ': ' if path else ''}{text}{where}")
        elif kind in WANTED:
            messages.append(f"{name}: {_wrong_type(kind, given)}{where}")
        else:
            messages.append(f"{name}: {text[:1].lower()}{text[1:]}, got {_short(given)}{where}")
    return "\n".join(dict.fromkeys(messages))


# pydantic's names of a wrong type, and what belongs there
WANTED = {
    "string_type": "a text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section with keys of its own",
    "model_type": "a section with keys of its own",
    "model_attributes_type": "a section with keys of its own",
}


def _wrong_type(kind: str, given: object) -> str:
    wanted = WANTED[kind]
    if given is None:
        return f"is empty; {wanted} belongs here"
    if isinstance(given, str) and kind in ("float_type", "int_type", "bool_type"):
        return f"is the text {_short(given)}; write {wanted} without quotes"
    if kind == "string_type" and not isinstance(given, list | dict):
        return f"is {given}, not a text; put it in quotes"
    return f"is {_short(given)}; {wanted} belongs here"


def _where(line: int | None, file: str) -> str:
    return " (command line)" if line == OVERRIDDEN else f" ({file}, line {line})" if line else f" ({file})"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def apply_overrides(values: dict[str, Any], overrides: Sequence[str], lines: Lines) -> dict[str, Any]:
    """`sft.learning_rate=1e-5`: each sets one key; its value is read as YAML."""
    for override in overrides:
        path, eq, text = override.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not eq or not all(keys):
            raise UsageError(f"{override!r}: an override is written section.key=value")
        value, _ = parse_yaml(text, f"override {override!r}")
        node = values
        for depth, key in enumerate(keys[:-1]):
            child = node.get(key)
            if child is None:
                node[key] = child = {}
                lines[tuple(keys[: depth + 1])] = OVERRIDDEN
                lines.pop((*keys[: depth + 1], EMPTY), None)
            if not isinstance(child, dict):
                raise UsageError(f"{override!r}: {'.'.join(keys[: depth + 1])} is not a section")
            node = child
        node[keys[-1]] = value
        for known in [k for k in lines if k[: len(keys)] == tuple(keys)]:
            del lines[known]
        lines[tuple(keys)] = OVERRIDDEN
    return values


def _empty_section(model: type[BaseModel], path: tuple[str | int, ...], lines: Lines, file: str) -> str | None:
    """What to say of a section that is there and empty, where one that is not there means something else; None if all is well."""
    name = str(path[-1])
    field = next((s.model_fields[name] for s in _sections_at(model, path[:-1], []) if name in s.model_fields), None)
    leaves = _leaves(field.annotation) if field else []
    kinds = [t for t in leaves if isinstance(t, type) and issubclass(t, BaseModel)]
    if not kinds or type(None) not in leaves:
        return None
    whole = not any(inner.is_required() for kind in kinds for inner in kind.model_fields.values())
    fill = f"write `{name}: {{}}` for its defaults" if whole else "write its keys below it"
    return f"{_dotted(path)}: is empty; {fill}, or take it out (`{name}: null` switches it off){_where(lines.get(path), file)}"


def build(model: type[Model], values: object, lines: Lines, file: str) -> Model:
    """`values` checked against `model`; raises `UsageError` with one line a mistake."""
    if not isinstance(values, dict):
        raise UsageError(f"{file}: a mapping of keys was expected, found {type(values).__name__}")
    if empty := [message for path in lines if path[-1:] == (EMPTY,) and (message := _empty_section(model, path[:-1], lines, file))]:
        raise UsageError("\n".join(empty))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_explain(error, values, lines, file, model)) from None
