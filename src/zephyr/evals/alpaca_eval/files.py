"""AlpacaEval's files in and out: annotations.json and model_outputs.json.

An annotation says which of two outputs a judge prefers: output_1 is the baseline's (generator_1), output_2 the model's (generator_2).
`preference` is 1 for the baseline, 2 for the model, 1.5 or (in old files) 0 for a draw, anything between 1 and 2 for a judge's
probability, and null where the reply held no verdict.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from zephyr.errors import DataError
from zephyr.evals import plain_files
from zephyr.evals.counts import agree
from zephyr.records import Row

INSTRUCTIONS = 805


@dataclass(frozen=True)
class Annotation:
    """One judged pair.

    Attributes:
        where: the place in the file.
        preference: as in the file, None where there is no verdict.
        row: the whole row, for what else it holds.
    """

    where: str
    instruction: str
    output_1: str
    output_2: str
    generator_1: str
    generator_2: str
    annotator: str
    preference: float | None
    row: Row

    @property
    def points(self) -> float | None:
        """What the model gets, from 0 to 1; a draw is a half."""
        if self.preference is None:
            return None
        return 0.5 if self.preference == 0 else self.preference - 1


@dataclass(frozen=True)
class Output:
    """A model's output to one instruction."""

    instruction: str
    output: str
    generator: str
    dataset: str = ""

    def row(self) -> Row:
        """As the original writes it."""
        return {"dataset": self.dataset, "instruction": self.instruction, "output": self.output, "generator": self.generator}


def read(path: Path, *, compatible: bool = False) -> list[Annotation]:
    """The annotations of a file, in its order.

    Args:
        path: JSON or JSONL, also under gzip.
        compatible: a preference that is none (NaN, 3) is dropped as the original does, and not an error.

    Raises:
        DataError: a row that does not fit; a file without rows; outputs of several models, or several baselines.
    """
    found = [_annotation(where, row, compatible) for where, row in plain_files.rows(path)]
    if not found:
        raise DataError(f"{path}: no annotations in it")
    if not compatible:
        for key in ("generator_2", "generator_1", "annotator"):
            first = getattr(found[0], key)
            odd = next((a for a in found if getattr(a, key) != first), None)
            if odd is not None:
                raise DataError(f"{odd.where}: `{key}` is {getattr(odd, key)}, before it was {first}; one file holds one comparison")
    return found


def write(path: Path, values: Iterable[Annotation]) -> None:
    """Annotations as the original reads them."""
    plain_files.write_list(path, (value.row for value in values))


def read_outputs(path: Path, *, model: str | None = None) -> list[Output]:
    """The outputs of a model_outputs.json, in its order; all must be of one generator, and of `model` if that is given.

    Raises:
        DataError: a row that does not fit, an instruction that is there twice, another model's output.
    """
    found: list[Output] = []
    seen: set[str] = set()
    for where, row in plain_files.rows(path):
        instruction, output, generator = (plain_files.text(where, row, key) for key in ("instruction", "output", "generator"))
        if instruction in seen:
            raise DataError(f"{where}: the instruction is there twice: {shortened(instruction)}")
        expected = model or (found[0].generator if found else generator)
        if generator != expected:
            raise DataError(f"{where}: an output of {generator}, outputs of {expected} were expected")
        seen.add(instruction)
        found.append(Output(instruction, output, generator, str(row.get("dataset") or "")))
    if not found:
        raise DataError(f"{path}: no outputs in it")
    return found


def served_by(annotations: Iterable[Annotation]) -> Iterator[str]:
    """The model of every verdict as the judge's server calls it, of rows that `zephyr evaluate` has written; "" where nobody says."""
    for annotation in annotations:
        verdicts = annotation.row.get("verdicts")
        for verdict in verdicts if isinstance(verdicts, list) else ():
            name = verdict.get("served") if isinstance(verdict, dict) else None
            yield name if isinstance(name, str) else ""


def write_outputs(path: Path, values: Iterable[Output]) -> None:
    """Outputs as the original reads them."""
    plain_files.write_list(path, (value.row() for value in values))


@cache
def positions() -> dict[str, int]:
    """Position in AlpacaEval's set by the first 12 hexadecimal digits of the instruction's sha256: enough to find one, not to show one."""
    text = (resources.files("zephyr.evals.alpaca_eval") / "instructions.sha256").read_text(encoding="ascii")
    return {digest: i for i, digest in enumerate(text.split())}


def position(instruction: str) -> int | None:
    """Where an instruction stands among AlpacaEval's 805; None if it is none of them."""
    return positions().get(hashlib.sha256(instruction.encode("utf-8", "surrogatepass")).hexdigest()[:12])


def check_outputs(annotations: Sequence[Annotation], outputs: Sequence[Output]) -> str | None:
    """Whether what was judged is what the model wrote: None, or how much is not."""
    written = {o.instruction: o.output for o in outputs}
    other = [a for a in annotations if written.get(a.instruction) != a.output_2]
    if not other:
        return None
    those = agree(len(other), "is not that", "are not those")
    return f"{len(other)} of {len(annotations)} judged outputs {those} of {outputs[0].generator}, the first is {other[0].where}"


def shortened(text: str) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


def _annotation(where: str, row: Row, compatible: bool) -> Annotation:
    instruction, output_1, output_2, generator_1, generator_2 = (
        plain_files.text(where, row, key) for key in ("instruction", "output_1", "output_2", "generator_1", "generator_2")
    )
    if "preference" not in row:
        raise DataError(f"{where}: `preference` is missing; null says that there is no verdict")
    annotator = row["annotator"] if isinstance(row.get("annotator"), str) else ""
    preference = _preference(where, row["preference"], compatible)
    return Annotation(where, instruction, output_1, output_2, generator_1, generator_2, annotator, preference, row)


def _preference(where: str, value: Any, compatible: bool) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and (value == 0 or 1 <= value <= 2):
        return float(value)
    if compatible and isinstance(value, int | float):
        return None
    shown = "NaN" if isinstance(value, float) and math.isnan(value) else repr(value)
    raise DataError(f"{where}: `preference` is {shown}; it must be from 1 to 2, or 0 for a draw, or null for no verdict")
