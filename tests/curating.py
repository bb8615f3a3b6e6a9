"""Dialogues out of a few hundred words, seeded; and a curation of them without the command around it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zephyr.artifacts import Artifact, Draft, draft
from zephyr.curation import curate
from zephyr.recipe import Curation, DataSource

_SYLLABLES = ["ba", "ce", "di", "fo", "gu", "ha", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "ya"]
WORDS = [a + b for a in _SYLLABLES for b in _SYLLABLES]


def text(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count)).capitalize() + "."


def varied(rng: random.Random, words: str, changes: int) -> str:
    found = words.split()
    for _ in range(changes):
        found[rng.randrange(len(found))] = rng.choice(WORDS)
    return " ".join(found)


def dialogue(rng: random.Random, **changes: Any) -> dict[str, Any]:
    turns = [text(rng, rng.randint(12, 30)) for _ in range(2 * rng.randint(1, 3))]
    return turned(turns, **changes)


def turned(turns: Iterable[str], **changes: Any) -> dict[str, Any]:
    messages = [{"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns)]
    return {"messages": messages, "category": "plain", **changes}


def dialogues(count: int, seed: int = 0, *, near: float = 0.2, same: float = 0.05) -> list[dict[str, Any]]:
    """Some of them say what an earlier one says, or almost."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        luck = rng.random()
        if rows and luck < near:
            turns = [message["content"] for message in rng.choice(rows)["messages"]]
            rows.append(turned([varied(rng, turn, rng.randint(0, 2)) for turn in turns]))
        elif rows and luck < near + same:
            rows.append(rng.choice(rows))
        else:
            rows.append(dialogue(rng))
    return rows


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(out: Path, data: Iterable[Path | DataSource], settings: Mapping[str, Any] | None = None, **rest: Any) -> Artifact:
    """An artifact of dialogues; `rest` as `zephyr.curation.curate` takes it."""
    config = Curation.model_validate({"processes": 1, **(settings or {})})
    sources = [source if isinstance(source, DataSource) else DataSource(path=str(source)) for source in data]
    with draft(out, stage="curate", key="k" * 16, config={}, parents={}) as made:
        _curate(config, sources, made, rest)
    return Artifact.open(out)


def _curate(config: Curation, sources: list[DataSource], made: Draft, rest: dict[str, Any]) -> None:
    curate(config, sources, made, **rest)


def contents(artifact: Artifact) -> dict[str, bytes]:
    """Every file of it but the manifest."""
    paths = sorted(p for p in artifact.path.rglob("*") if p.is_file() and p.name != "manifest.json")
    return {p.relative_to(artifact.path).as_posix(): p.read_bytes() for p in paths}


def dropped(artifact: Artifact) -> list[dict[str, Any]]:
    path = artifact.path / "dropped" / "dropped.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def prompts(artifact: Artifact, split: str) -> list[str]:
    return [row["prompt"] for row in artifact.each_row(split)]
