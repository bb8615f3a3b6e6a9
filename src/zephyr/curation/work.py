"""What every process that works at a curation knows: the settings, the pieces, and where what is finished lies."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zephyr import durable
from zephyr.curation.gate import Gate
from zephyr.curation.inputs import Piece
from zephyr.curation.keep import load_array
from zephyr.curation.rows import Clock, Judge, load_cases
from zephyr.recipe import Curation, DataSource
from zephyr.records import Row
from zephyr.text.contamination import Benchmarks

# what the index says of a row; keys are 64 bits of a hash
ROW = np.dtype(
    [
        ("place", "<u4"),  # in its piece
        ("fate", "u1"),
        ("shape", "u1"),
        ("test", "u1"),
        ("drawn", "u1"),  # its split was drawn, not given
        ("gen", "u1"),
        ("named", "u1"),  # it brought an id along
        ("by_texts", "u1"),  # what tells it from others is its texts, not its id
        ("turns", "<u2"),  # messages
        ("words", "<u2"),  # whose case was mended
        ("chars", "<u4"),
        ("topic", "<u8"),
        ("identity", "<u8"),
        ("prompt_id", "<u8"),
        ("prompt", "<u8"),
        ("content", "<u8"),  # the words of the prompt
        ("record", "<u8"),  # all that it says
    ]
)
_MAPPED = 256  # files that are kept open at once
KEPT, ASIDE, LEFT_OUT = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Work:
    """A curation, as it is handed to processes in a file.

    Attributes:
        folder: where work in progress is kept.
        config: the settings.
        data: the sources, in order.
        against: benchmarks by name.
        pieces: of the data, in order.
        cases: the file of what was learnt about case, or None.
    """

    folder: Path
    config: Curation
    data: tuple[DataSource, ...]
    against: Mapping[str, DataSource]
    pieces: tuple[Piece, ...]
    cases: str | None
    _open: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False)

    def save(self) -> None:
        """Write it where processes look for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {name: _plain(getattr(self.config, name)) for name in Curation.model_fields}
        value = {
            "config": config,
            "data": [source.model_dump() for source in self.data],
            "against": {name: source.model_dump() for name, source in self.against.items()},
            "pieces": [piece.json() for piece in self.pieces],
            "cases": self.cases,
        }
        durable.write_text(self.folder / "work.json", json.dumps(value))

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def load(folder: Path) -> Work:
        """What `save` wrote in a folder."""
        value: dict[str, Any] = json.loads((folder / "work.json").read_text(encoding="utf-8"))
        return Work(
            folder,
            Curation.model_validate(value["config"]),
            tuple(DataSource.model_validate(source) for source in value["data"]),
            {name: DataSource.model_validate(source) for name, source in value["against"].items()},
            tuple(Piece(**piece) for piece in value["pieces"]),
            value["cases"],
        )

    def path(self, step: str, name: str | int, suffix: str) -> Path:
        """Where a step keeps what it made."""
        return self.folder / f"step-{step}" / f"{name if isinstance(name, str) else f'{name:05}'}{suffix}"

    def judge(self, clock: Clock) -> Judge:
        """What judges single rows."""
        return Judge(self.config, self.data, load_cases(self.cases) if self.cases else None, clock)

    def reader(self) -> Judge:
        """What reads rows that have been judged before: nothing is looked for in them, and their case is left as it is."""
        return Judge(self.config.model_copy(update={"filters": "none"}), self.data, None, Clock())

    def gate(self) -> Gate | None:
        """What finds items of benchmarks, or None where there are none to find."""
        return _gate(self) if self.against and self.config.decontaminate else None

    def rows(self, number: int) -> NDArray[Any]:
        """What the index says of the rows of a piece."""
        if number not in self._open:
            if len(self._open) >= _MAPPED:
                self._open.clear()
            self._open[number] = load_array(self.path("index", number, ".rows.npy"))
        return self._open[number]

    def about(self, number: int) -> dict[str, Any]:
        """What else the index says of a piece."""
        found: dict[str, Any] = json.loads(self.path("index", number, ".json").read_text(encoding="utf-8"))
        return found

    def mended(self, number: int) -> dict[int, Row]:
        """The rows of a piece whose case was mended, as they are then, by their numbers in it."""
        path = self.path("index", number, ".mended.json")
        if not path.exists():
            return {}
        return {int(row): mended for row, mended in json.loads(path.read_text(encoding="utf-8")).items()}

    def near(self) -> dict[str, Any]:
        """By kind, how near-duplicates are sought; without those that are not."""
        settings = {"prompts": self.config.near_prompts, "dialogues": self.config.near_dialogues}
        return {kind: setting for kind, setting in settings.items() if setting is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value.model_dump() if hasattr(value, "model_dump") else value


@functools.lru_cache(maxsize=1)
def _gate(work: Work) -> Gate:
    gate = work.config.gate
    return Gate(Benchmarks.read(work.against, n=gate.ngram, overlap=gate.overlap))
