"""How fast dialogues are curated, step by step, and how much memory that takes, at any number of rows.

    python benchmarks/curate.py --rows 100000 --texts conversations.json --texts books.jsonl.gz --folder runs/curate

The rows are in UltraChat's shape and size (about 7 kB), put together by seed from sentences of the texts given: what a `conversations`,
`messages` or `text` column holds. One in twenty is there twice, one in twenty has words changed here and there, one in twenty is all in
small letters. They are written to the folder once and used again. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import measure

from zephyr.files import open_text

SENTENCE = re.compile(r"(?<=[.!?])\s+")
SAME, NEAR, SMALL = 0.05, 0.05, 0.05
SETTINGS = ["invalid=drop", "filters=default", "truecase=self", "near_prompts={}", "near_dialogues={}"]


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file of rows, whatever their shape."""
    with open_text(path) as file:
        rows = json.load(file) if ".jsonl" not in path.name else map(json.loads, file)
        for row in rows:
            if isinstance(row.get("text"), str):
                yield row["text"]
            yield from (turn.get("value") or turn.get("content") or "" for turn in row.get("conversations") or row.get("messages") or [])


def sentences(paths: list[Path]) -> tuple[list[str], list[str]]:
    """(questions, other sentences) of the texts."""
    found = {s.strip() for path in paths for text in texts_of(path) for s in SENTENCE.split(text) if 30 <= len(s) <= 400 and s[0].isupper()}
    ordered = sorted(found)
    return [s for s in ordered if s.endswith("?")], [s for s in ordered if s[-1:] in ".!"]


def dialogue(rng: random.Random, questions: list[str], statements: list[str]) -> list[str]:
    """Two to seven exchanges, 7 kB on average."""
    turns = []
    for i in range(rng.choice((2, 3, 3, 4, 4, 5, 6, 7))):
        asked = rng.choices(statements, k=rng.choice((0, 0, 1, 2))) if i == 0 else []
        turns += [" ".join([*asked, rng.choice(questions)]), " ".join(rng.choices(statements, k=rng.randint(8, 18)))]
    return turns


def varied(rng: random.Random, text: str) -> str:
    """A text with one word in fifty taken from elsewhere in it."""
    words = text.split()
    for _ in range(len(words) // 50):
        words[rng.randrange(len(words))] = rng.choice(words)
    return " ".join(words)


def generate(to: Path, rows: int, sources: list[Path]) -> None:
    """Write the rows, unless they are there."""
    if to.exists():
        return
    questions, statements = sentences(sources)
    print(f"{len(questions):,} questions and {len(statements):,} other sentences", file=sys.stderr)
    rng, recent = random.Random(0), list[list[str]]()
    aside = to.with_suffix(".partial")
    with aside.open("w", encoding="utf-8") as file:
        for i in range(rows):
            luck = rng.random()
            if recent and luck < SAME:
                turns = rng.choice(recent)
            elif recent and luck < SAME + NEAR:
                turns = [varied(rng, turn) for turn in rng.choice(recent)]
            else:
                turns = dialogue(rng, questions, statements)
            if rng.random() < SMALL:
                turns = [turn.lower() for turn in turns]
            if len(recent) < 1000:
                recent.append(turns)
            else:
                recent[rng.randrange(1000)] = turns
            file.write(json.dumps({"id": str(i), "data": turns}, ensure_ascii=False) + "\n")
    aside.replace(to)


def raw_speed(path: Path) -> float:
    """MB/s at which the file is read from the disk, nothing done with it."""
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start, size = time.perf_counter(), 0
        while block := file.read(1 << 20):
            size += len(block)
        return size / 1e6 / (time.perf_counter() - start)


def speeds(rows: int, megabytes: float, seconds: dict[str, float], processes: int) -> dict[str, dict[str, float]]:
    """Rows and megabytes a second of each step; what was summed over processes is divided by their number."""
    return {
        step: {
            "seconds": round(s / processes, 2),
            "rows_per_s": round(rows * processes / s, 1),
            "mb_per_s": round(megabytes * processes / s, 2),
        }
        for step, s in seconds.items()
        if s > 0.005
    }


def main() -> None:
    """Write the rows, curate them, say how it went."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--texts", type=Path, action="append", required=True, help="real text to put rows together from")
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--against", action="append", default=[], help="a benchmark, as for `zephyr curate`")
    arguments.add_argument("--only-generate", action="store_true")
    arguments.add_argument("settings", nargs="*", help=f"in place of {' '.join(SETTINGS)}")
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    data = given.folder / f"{given.rows}.jsonl"
    generate(data, given.rows, given.texts)
    if given.only_generate:
        return
    print(json.dumps(run(data, given.rows, given.settings or SETTINGS, given.against)))


def run(data: Path, rows: int, settings: list[str], against: list[str]) -> dict[str, Any]:
    """One curation, measured as a user would see it: from the call to the artifact, hashing of the data included."""
    from zephyr import api, artifacts
    from zephyr.world import processors

    megabytes, raw = data.stat().st_size / 1e6, raw_speed(data)
    out = data.with_suffix(".curated")
    for left in (out, artifacts.checkpoints_of(out)):
        shutil.rmtree(left, ignore_errors=True)
    settings = [*settings, f"select.target={rows // 7}"] if not any("select" in s for s in settings) else settings
    start = time.perf_counter()
    with measure.Peak(children=True) as memory:
        result = api.stage("curate", "curate", {"dialogues": [str(data)]}, out, settings=settings, against=against)
    seconds = time.perf_counter() - start
    about = result["results"]
    return {
        "rows": rows,
        "mb": round(megabytes, 1),
        "processes": processors(),
        "seconds": round(seconds, 1),
        "rows_per_s": round(rows / seconds, 1),
        "mb_per_s": round(megabytes / seconds, 2),
        "raw_mb_per_s": round(raw, 1),
        "share_of_raw": round(megabytes / seconds / raw, 4),
        "peak_mb": round(memory.peak / 1e6, 1),
        "passes": speeds(rows, megabytes, about["passes"], 1),
        "steps": speeds(rows, megabytes, about["seconds"], processors()),
        "rows_out": result["rows"],
        "dropped": result["dropped"],
        "compared": {name: n for name, n in about.items() if name.endswith("_compared")},
        "machine": measure.machine(),
    }


if __name__ == "__main__":
    main()
