"""The first pass: every row by itself. What is needed to compare it with others is written down, some hundred bytes a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zephyr import durable
from zephyr.curation import inputs
from zephyr.curation.gate import Gate
from zephyr.curation.hashing import MinHash, Words, fold, key64
from zephyr.curation.inputs import Piece
from zephyr.curation.keep import keep_array
from zephyr.curation.rows import Clock, Judge, Kept, LeftOut, Verdict
from zephyr.curation.shapes import SHAPES
from zephyr.curation.topics import TOPICS, topics_of
from zephyr.curation.work import ASIDE, KEPT, LEFT_OUT, ROW, Work
from zephyr.records import Dialogue, Row, content_id, prompt_id_of

_BATCH_CHARS, _BATCH_ROWS = 1 << 18, 512  # what fits into a near cache


@dataclass(frozen=True)
class Judged:
    """A row, its place in its piece, its shape, and what became of it."""

    place: int
    shape: str
    verdict: Verdict


@dataclass
class _Index:
    """What is written down, as it grows."""

    rows: list[NDArray[Any]] = field(default_factory=list)
    aside: list[dict[str, Any]] = field(default_factory=list)
    topics: dict[str, str] = field(default_factory=dict)
    keys: dict[str, list[NDArray[np.uint64]]] = field(default_factory=dict)
    mended: dict[int, Row] = field(default_factory=dict)


def index(work: Work, number: int) -> dict[str, Any]:
    """Index a piece, unless that is done.

    Returns:
        what the index says of the piece: its rows, lines, bytes, what was left out, and seconds by step.
    """
    marker = work.path("index", number, ".json")
    if marker.exists():
        return work.about(number)
    piece, clock, found = work.pieces[number], Clock(), _Index()
    with clock("write down"):
        judge, gate = work.judge(clock), work.gate()
        hashers = {kind: MinHash(near.bands, near.rows) for kind, near in work.near().items()}
        for batch in _batches(judged(judge, piece, clock)):
            _add(found, batch, work, gate, hashers, clock)
        rows = np.concatenate(found.rows) if found.rows else np.empty(0, ROW)
        keep_array(work.path("index", number, ".rows.npy"), rows)
        for kind, keys in found.keys.items():
            keep_array(work.path("index", number, f".{kind}.npy"), np.concatenate(keys, axis=1))
    if found.mended:
        durable.write_text(work.path("index", number, ".mended.json"), json.dumps(found.mended))
    lines = inputs.count_lines(piece)
    about = {"rows": len(rows), "lines": lines, "bytes": piece.size, "aside": found.aside, "topics": found.topics, "seconds": clock.seconds}
    durable.write_text(marker, json.dumps(about))  # last: what has it is whole
    return about


def judged(judge: Judge, piece: Piece, clock: Clock) -> Iterator[Judged]:
    """The rows of a piece, judged one by one."""
    rows = inputs.read(piece)
    while True:
        with clock("read"):
            place, row = next(rows, (-1, None))
        if row is None:
            return
        with clock("parse"):
            shape, shaped = judge.shape(piece.source, row)
            verdict = judge.judge(piece.source, piece.split, shaped)
        yield Judged(place, shape, verdict)


def _batches(rows: Iterable[Judged]) -> Iterator[list[Judged]]:
    batch: list[Judged] = []
    chars = 0
    for row in rows:
        batch.append(row)
        if isinstance(row.verdict, Kept):
            chars += _chars(row.verdict.record)
        if chars >= _BATCH_CHARS or len(batch) >= _BATCH_ROWS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _chars(record: Dialogue) -> int:
    return sum(len(message["content"]) for message in record.messages)


# --- a batch -----------------------------------------------------------------------------------------------------


def _add(found: _Index, batch: Sequence[Judged], work: Work, gate: Gate | None, hashers: dict[str, MinHash], clock: Clock) -> None:
    first = sum(map(len, found.rows))
    rows = np.zeros(len(batch), ROW)
    kept: list[int] = []
    for i, row in enumerate(batch):
        rows[i]["place"], rows[i]["shape"] = row.place, list(SHAPES).index(row.shape) if row.shape else len(SHAPES)
        if isinstance(row.verdict, Kept):
            _describe(rows[i], row.verdict)
            kept.append(i)
            if row.verdict.words:
                found.mended[first + i] = row.verdict.record.row()
        elif isinstance(row.verdict, LeftOut):
            rows[i]["fate"] = LEFT_OUT
        else:
            rows[i]["fate"] = ASIDE
            found.aside.append({"row": first + i, "reason": row.verdict.reason, "problem": row.verdict.problem, **row.verdict.details})
    if kept and (gate or hashers or work.config.select):
        with clock("words"):
            texts = Texts([batch[i].verdict.record for i in kept])  # type: ignore[union-attr]  # `kept` are those whose verdict has one
        if gate:
            with clock("gate"):
                kept, texts = _screened(found, batch, rows, kept, texts, gate, first)
        if work.config.select and kept:
            _topics(found, batch, rows, kept, texts)
        with clock("near-duplicates"):
            identities = rows["identity"][kept]
            for kind, hasher in hashers.items():
                found.keys.setdefault(kind, []).append(_keys(kind, texts, hasher, work.near()[kind].ngram, identities))
    found.rows.append(rows)


def _describe(row: Any, kept: Kept) -> None:
    record = kept.record
    by_texts = record.prompt_id == prompt_id_of(record.prompt)
    identity = record.identity
    texts = () if by_texts else tuple(m["role"] + "\x1f" + m["content"] for m in record.messages)
    row["fate"], row["test"], row["drawn"] = KEPT, kept.split == "test", kept.drawn
    row["gen"], row["named"], row["by_texts"] = kept.generates, kept.named, by_texts
    row["turns"], row["words"] = min(len(record.messages), 0xFFFF), min(kept.words, 0xFFFF)
    row["chars"] = min(_chars(record), 0xFFFFFFFF)
    row["identity"], row["prompt_id"], row["prompt"] = key64(identity), key64(record.prompt_id), key64(record.prompt)
    row["content"] = key64(content_id(record.prompt))
    row["record"] = key64(record.prompt, record.prompt_id, identity, *texts)


class Texts:
    """The words of dialogues: of every message, and of every prompt."""

    def __init__(self, records: Sequence[Dialogue]) -> None:
        self.records = records
        contents: list[str] = []
        self.owner: list[int] = []  # of every text, the number of its dialogue
        speaks: list[int] = []  # the same; negative for what nobody says or a system turn is
        self.prompt: list[int] = []  # of every text, the number of the dialogue whose prompt it is, or negative
        for i, record in enumerate(records):
            said = [message["content"] for message in record.messages]
            extra = [] if record.prompt in said else [record.prompt]  # a prompt that is no message of its dialogue
            at = (said + extra).index(record.prompt)
            contents += said + extra
            self.owner += [i] * len(said + extra)
            speaks += [-1 if message["role"] == "system" else i for message in record.messages] + [-1] * len(extra)
            self.prompt += [i if k == at else -1 for k in range(len(said + extra))]
        self.contents = contents
        self.words = Words.of([fold(text) for text in contents])
        self._groups = {"prompts": np.array(self.prompt), "dialogues": np.array(speaks)}

    def of(self, kind: str) -> Words:
        """The words of the prompts, or of all that user and assistant say, by dialogue."""
        return self.words.regrouped(self._groups[kind])

    def run_sets(self, kind: str, ngram: int) -> list[NDArray[np.uint64]]:
        """The runs of words of every dialogue, sorted and each once: what near-duplicates are compared by."""
        runs = self.of(kind).runs(ngram)
        bounds = runs.bounds(len(self.records))
        return [np.unique(runs.hashes[bounds[i] : bounds[i + 1]]) for i in range(len(self.records))]


def _screened(
    found: _Index, batch: Sequence[Judged], rows: NDArray[Any], kept: list[int], texts: Texts, gate: Gate, first: int
) -> tuple[list[int], Texts]:
    """The rows that hold no item of a benchmark; what do is put aside."""
    held: dict[int, dict[str, Any]] = {}
    for text in gate.suspects(texts.words, len(texts.contents)):
        owner = texts.owner[text]
        if owner not in held and (hit := gate.of(texts.contents[text])):
            message = text - texts.owner.index(owner)
            item = {
                "benchmark": hit.benchmark,
                "comparison": hit.kind,
                "item": hit.text,
                "overlap": round(hit.overlap, 4),
                "message": message,
            }
            held[owner] = {"reason": f"in the benchmark {hit.benchmark} ({hit.kind})", "match": item}
    if not held:
        return kept, texts
    for owner, entry in sorted(held.items()):
        i = kept[owner]
        rows[i]["fate"] = ASIDE
        found.aside.append({"row": first + i, "problem": "", **entry})
    left = [i for owner, i in enumerate(kept) if owner not in held]
    return left, Texts([batch[i].verdict.record for i in left])  # type: ignore[union-attr]  # `kept` are those whose verdict has one


def _topics(found: _Index, batch: Sequence[Judged], rows: NDArray[Any], kept: Sequence[int], texts: Texts) -> None:
    """The topic of each dialogue: its category, where it has one."""
    guessed = topics_of(texts.of("prompts"), len(kept))
    for at, i in enumerate(kept):
        name = texts.records[at].category or TOPICS[guessed[at]]
        key = key64(name)
        rows[i]["topic"] = key
        found.topics[str(key)] = name


def _keys(kind: str, texts: Texts, hasher: MinHash, ngram: int, identities: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The bands of the rows that are kept, [bands, rows]; a text without words is like no other."""
    count = len(texts.records)
    runs = texts.of(kind).runs(ngram)
    bounds = runs.bounds(count)
    alone = np.where(bounds[1:] == bounds[:-1], identities | np.uint64(1), np.uint64(0))
    return hasher.keys(hasher.signatures(runs, count), alone)
