"""Which rows are learnt and which are measured on: no prompt is in both, and what is left out is counted by its reason.

Which rows are test rows is decided by a hash of their prompts, not by their order or by the seed of a training: all seeds are measured on
the same rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from zephyr import schemas
from zephyr.artifacts import Draft
from zephyr.errors import DataError
from zephyr.evals.plain_files import text
from zephyr.pairs import pair_of, score_of
from zephyr.recipe import BinarizeConfig, DataSource, Section
from zephyr.records import Dialogue, Preference, RatedPrompt, Row, content_id, parse_dialogue, parse_rated_prompt, seeded_unit
from zephyr.reproduce import shapes
from zephyr.reproduce.preset import DataConfig

VERSION = 1
MAIN, OTHER = "ultrafeedback", "alpaca_eval"
DEMO = "builtin:demo"
DOCUMENT = 10_000  # characters of a document that short texts are joined to
Asked = TypeVar("Asked", Dialogue, Preference, RatedPrompt)
Answered = TypeVar("Answered", Dialogue, Preference)
Split = dict[str, list[Asked]]


class Config(Section):
    """What the rows depend on, beside the files."""

    data: DataConfig


@dataclass
class Rows:
    """All rows of an experiment.

    Args:
        text: documents for the base, in the order they are read in.
        dialogues: train and test.
        pairs: train and test.
        other: a second held-out set of pairs.
        left_out: how many rows are not used, by reason.
    """

    text: list[str]
    dialogues: Split[Dialogue]
    pairs: Split[Preference]
    other: list[Preference] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def inputs(config: DataConfig, folder: Path | None) -> dict[str, list[DataSource]]:
    """The files that are read, by name."""
    if config.source == "demo":
        return {name: [DataSource(path=f"{DEMO}/{name}")] for name in ("dialogues", "feedback")}
    assert folder is not None, "whoever asks for a folder has one"
    return {name: [DataSource(path=str(path))] for name, path in shapes.files_in(folder).items()}


MEASURABLE = 2  # prompts: of fewer no spread can be told
PARTS = ("text", "dialogues", "pairs", "other")


def write(name: str, rows: Rows, out: Draft) -> None:
    """One part of the rows as an artifact: `text`, `dialogues`, `pairs` or `other`."""
    if name == "text":
        out.write_rows("train", [{"text": document} for document in rows.text])
    elif name == "other":
        out.write_rows("test", [pair.row() for pair in rows.other], schemas.preferences())
    else:
        found: Split[Dialogue] | Split[Preference] = rows.dialogues if name == "dialogues" else rows.pairs
        schema = schemas.dialogues() if name == "dialogues" else schemas.preferences()
        for split, records in found.items():
            out.write_rows(split, [record.row() for record in records], schema)
    out.manifest.results["left_out"] = dict(sorted(rows.left_out.items()))


def gathered(config: DataConfig, data: Mapping[str, Sequence[DataSource]]) -> Rows:
    """The rows of the shipped demo, or of a folder.

    Raises:
        DataError: a row that cannot be read, or too few are left.
    """
    rows = _demo(config) if config.source == "demo" else _folder(config, {name: given[0].path for name, given in data.items()})
    rows = _validated(rows, config)
    enough(rows)
    return rows


def enough(rows: Rows) -> None:
    """Refuse an experiment whose results would have no interval: prompts are counted, for those of one prompt are not independent.

    The second held-out set may be empty: then it is not measured.

    Raises:
        DataError: a part of it has rows of fewer prompts than `MEASURABLE`.
    """
    parts: dict[str, Sequence[Dialogue] | Sequence[Preference]] = {
        "dialogues to learn": rows.dialogues["train"], "test dialogues": rows.dialogues["test"],
        "pairs to learn": rows.pairs["train"], "held-out pairs": rows.pairs["test"],
    }  # fmt: skip
    if rows.other:
        parts["AlpacaEval pairs"] = rows.other
    prompts = {name: len({record.prompt_id for record in records}) for name, records in parts.items()}
    if few := [f"{len(parts[name])} {name} of {n} prompt{'' if n == 1 else 's'}" for name, n in prompts.items() if n < MEASURABLE]:
        why = ", ".join(f"{n} ({reason})" for reason, n in rows.left_out.most_common(4))
        left_out = f"; left out: {why}" if why else ""
        raise DataError(
            f"too few rows: {', '.join(few)}, and each part takes {MEASURABLE} prompts or more; raise data.* or give more rows{left_out}"
        )


def _validated(rows: Rows, config: DataConfig) -> Rows:
    """With `validation`, a part of the train rows is what is measured on; the test rows are not looked at."""
    if not config.validation:
        return rows
    dialogues, pairs = rows.dialogues["train"], rows.pairs["train"]
    held, learnt = _cut(dialogues, max(2, len(dialogues) // 10), "validate")
    measured, trained = _cut(pairs, max(2, len(pairs) // 4), "validate")
    # the base keeps what it has read, so that the same base serves to try settings and to measure
    return replace(rows, dialogues={"train": learnt, "test": held}, pairs={"train": trained, "test": measured}, other=[])


# --- the shipped demo ------------------------------------------------------------------------------------------


def _demo(config: DataConfig) -> Rows:
    dialogues = {s: [parse_dialogue(row) for _, row in shapes.rows(f"{DEMO}/dialogues/{s}.jsonl")] for s in ("train", "test")}
    rated = {s: [parse_rated_prompt(row) for _, row in shapes.rows(f"{DEMO}/feedback/{s}.jsonl")] for s in ("train", "test")}
    asked = _first(rated["train"], config.train_pairs)
    made = [pair_of(prompt, BinarizeConfig(score="mean"), 0) for prompt in asked]  # by the mean and at random: paper, section 4.1
    held = [pair for prompt in rated["test"] for pair in _every_pair(prompt)]
    learnt = _first(dialogues["train"], config.train_dialogues)
    rows = Rows(
        text=[],
        dialogues={"train": learnt, "test": _first(dialogues["test"], config.test_dialogues)},
        pairs={"train": [pair for pair in made if isinstance(pair, Preference)], "test": _first(held, config.test_pairs)},
        left_out=Counter(pair.reason for pair in made if not isinstance(pair, Preference)),
    )
    answers = [c.response for prompt in asked for c in prompt.completions if c.response.strip()]
    rows.text = _long([*_texts(learnt), *(p.prompt for p in asked), *answers])
    return _unseen(rows)


def _every_pair(prompt: RatedPrompt) -> Iterator[Preference]:
    """Every two answers whose mean ratings differ, the better one first."""
    scored = [(c.response, score) for c in prompt.completions if (score := score_of(c.rating, "mean")) is not None]
    for (one, a), (other, b) in combinations(scored, 2):
        if a != b and one.strip() != other.strip():
            better, worse = (one, other) if a > b else (other, one)
            pair = shapes.pair(prompt.prompt, better, worse, "demo", (float(max(a, b)), float(min(a, b))))
            yield replace(pair, prompt_id=prompt.prompt_id, category=prompt.category)


# --- a folder --------------------------------------------------------------------------------------------------


def _folder(config: DataConfig, files: Mapping[str, str]) -> Rows:
    books, alpaca, dolly, feedback, verdicts = (files[name] for name in shapes.FILES)
    left_out: Counter[str] = Counter()
    pairs = _fitting(_pairs(feedback, left_out), config, left_out, "pair")
    # where there are fewer than both ask for, a third at least is measured on
    learnt_pairs = min(config.train_pairs, 2 * len(pairs) // 3)
    held_pairs, rest = _cut(pairs, min(config.test_pairs, len(pairs) - learnt_pairs), "pairs")
    other = _first(_fitting(_judged(verdicts), config, left_out, "AlpacaEval pair"), config.other_pairs)
    dialogues = _fitting(_dialogues({alpaca: shapes.alpaca, dolly: shapes.dolly}, left_out), config, left_out, "dialogue")
    held, learnt = _cut(dialogues, config.test_dialogues, "dialogues")
    rows = _unseen(
        Rows(
            text=[],
            dialogues={"train": learnt[: config.train_dialogues], "test": held},
            pairs={"train": rest[:learnt_pairs], "test": held_pairs},
            other=other,
            left_out=left_out,
        )
    )
    rows.text = [*_books(books), *_long(_texts(rows.dialogues["train"]))]
    return rows


def _pairs(path: str, left_out: Counter[str]) -> list[Preference]:
    """UltraFeedback's pairs without ties, without those whose rejected answer scores more, without equal texts."""
    found = []
    for where, row in shapes.rows(path):
        prompt, chosen, rejected = (text(where, row, key) for key in ("prompt", "chosen", "rejected"))
        high, low = (shapes.number(where, row, key) for key in ("score_chosen", "score_rejected"))
        if not all(t.strip() for t in (prompt, chosen, rejected)):
            left_out["pair: a text is empty"] += 1
        elif high <= low:
            left_out["pair: the scores tie" if high == low else "pair: the rejected answer has the higher score"] += 1
        elif chosen.strip() == rejected.strip():
            left_out["pair: both answers are the same"] += 1
        else:
            found.append(shapes.pair(prompt, chosen, rejected, MAIN, (high, low)))
    return _once(found, left_out, "pair")


def _judged(path: str) -> list[Preference]:
    """Of each AlpacaEval prompt one answer that the judge put above the baseline's, and one that it put below, drawn by hash."""
    won: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for where, row in shapes.rows(path):
        verdict, answer = row.get("gpt4_pref_vs_davinci003"), row.get("output")
        if verdict in (0, 1) and isinstance(answer, str) and answer.strip():
            won[text(where, row, "instruction")][int(verdict)].append(answer)
    drawn = {
        prompt: [min(answers, key=lambda a: seeded_unit(0, "judged", content_id(prompt), a)) for answers in both]
        for prompt, both in won.items()
        if all(both)
    }
    return [shapes.pair(prompt, above, below, OTHER) for prompt, (below, above) in drawn.items() if above.strip() != below.strip()]


def _dialogues(files: Mapping[str, Callable[[str, Row], Dialogue | None]], left_out: Counter[str]) -> list[Dialogue]:
    found: list[Dialogue] = []
    for path, read in files.items():
        for where, row in shapes.rows(path):
            if (made := read(where, row)) is None:
                left_out["dialogue: a text is empty"] += 1
            else:
                found.append(made)
    return _once(found, left_out, "dialogue")


def _books(path: str) -> list[str]:
    return [text(where, row, "text") for where, row in shapes.rows(path)]


# --- both ------------------------------------------------------------------------------------------------------


def _fitting(records: Sequence[Answered], config: DataConfig, left_out: Counter[str], what: str) -> list[Answered]:
    """Those that are not too long to be read whole."""
    fits = [record for record in records if _characters(record) <= config.characters]
    if len(fits) < len(records):
        left_out[f"{what}: prompt and answer have more than {config.characters:,} characters"] += len(records) - len(fits)
    return fits


def _characters(record: Dialogue | Preference) -> int:
    """Of what is said in a dialogue, or of a prompt with the longer of its answers."""
    talks = [record.messages] if isinstance(record, Dialogue) else [record.chosen, record.rejected]
    return max(sum(len(m["content"]) for m in messages) for messages in talks)


def _once(records: Sequence[Asked], left_out: Counter[str], what: str) -> list[Asked]:
    """The first of those that have one prompt, but for capitals and spaces."""
    first: dict[str, Asked] = {}
    for record in records:
        first.setdefault(content_id(record.prompt), record)
    if len(first) < len(records):
        left_out[f"{what}: its prompt was there before"] += len(records) - len(first)
    return list(first.values())


def _unseen(rows: Rows) -> Rows:
    """Train rows without those whose prompt is in any test set, that of the other kind of rows included."""
    tested = {content_id(r.prompt) for given in (rows.dialogues["test"], rows.pairs["test"], rows.other) for r in given}
    rows.dialogues["train"] = _not_in(tested, rows.dialogues["train"], rows.left_out, "dialogue")
    rows.pairs["train"] = _not_in(tested, rows.pairs["train"], rows.left_out, "pair")
    return rows


def _not_in(tested: Collection[str], records: Sequence[Asked], left_out: Counter[str], what: str) -> list[Asked]:
    kept = [record for record in records if content_id(record.prompt) not in tested]
    if len(kept) < len(records):
        left_out[f"{what}: its prompt is in a test set"] += len(records) - len(kept)
    return kept


def _texts(dialogues: Iterable[Dialogue]) -> list[str]:
    """What is said in dialogues, each turn a document of its own."""
    return [m["content"] for d in dialogues for m in d.messages if m["content"].strip()]


def _long(texts: Iterable[str]) -> list[str]:
    """Short texts in the order of a hash, so that no answer stands after its question, joined to documents as long as those of the web.

    The base must not learn to answer, nor that every text ends after a few lines: the token that ends a document would come too readily.
    """
    documents: list[list[str]] = [[]]
    for one in sorted(dict.fromkeys(texts), key=lambda t: seeded_unit(0, "text", t)):
        documents[-1].append(one)
        if sum(map(len, documents[-1])) >= DOCUMENT:
            documents.append([])
    return ["\n\n".join(document) for document in documents if document]


def _first(records: Sequence[Asked], count: int) -> list[Asked]:
    """So many, by a hash of their prompts; those of one prompt stay together in order."""
    return sorted(records, key=lambda r: seeded_unit(0, "first", r.prompt_id))[:count]


def _cut(records: Sequence[Asked], count: int, purpose: str) -> tuple[list[Asked], list[Asked]]:
    """(so many, the rest), by a hash of their prompts."""
    order = sorted(records, key=lambda r: seeded_unit(0, purpose, content_id(r.prompt)))
    return order[:count], order[count:]
