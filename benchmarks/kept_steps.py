"""The steps of `kept.py` that are no stage of the path: careful rows, rows of a training, a model measured; and what comes of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zephyr import schemas, sources
from zephyr.artifacts import Artifact, Draft
from zephyr.curation.shapes import as_messages, shape_of
from zephyr.errors import DataError
from zephyr.pipeline import Work
from zephyr.recipe import Count, DataSource, Section, SFTConfig, TrainConfig
from zephyr.records import Dialogue, parse_dialogue, seeded_unit
from zephyr.reproduce import compare
from zephyr.reproduce.preset import SamplingConfig
from zephyr.reproduce.scores import Cells
from zephyr.text.filters import all_hits, examine, is_on

# careful answers that are not ShareGPT's: the file, and whose answers are taken of a file that has several models'
CAREFUL = {"alpaca": ("sft/alpaca_en_demo.jsonl.gz", None), "alpaca-eval": ("feedback/alpaca_eval_feedback.jsonl.gz", "gpt4")}
VOICE = ("disclaimer", "as-an-ai", "refusal")
UNUSED = 0.01  # of the learnt tokens, at most, that a training may lack since no whole dialogue fits any more


# --- rows ------------------------------------------------------------------------------------------------------


class Careful(Section):
    """Whose answers are taken, by set; None of a file that has one answer a prompt."""

    answers_of: dict[str, str | None]


def careful(config: Careful, made: Work, out: Draft) -> None:
    """The careful rows as dialogues that name their set."""
    rows = []
    for name, (source,) in made.inputs.data.items():
        for _, _, row in sources.rows(source, whole=True):
            if config.answers_of[name] in (None, row.get("model")) and str(row["output"]).strip():
                rows.append(parse_dialogue({**as_messages(row, shape_of(row)), "prompt_id": "", "source": name}).row())
    out.write_rows("test", rows, schemas.dialogues())


class Drawn(Section):
    """Which dialogues a training learns."""

    seed: int
    chat_template: str
    tokens: Count
    length: Count


def draw(config: Drawn, made: Work, out: Draft) -> None:
    """Train rows in the order of their hashes, until the learnt tokens are there."""
    from zephyr.models import load
    from zephyr.train.batches import pack

    chat = load.load_chat(made.inputs.models["base"], config.chat_template)
    records = [d for source in made.inputs.data["dialogues"] for d in _dialogues(source)]
    records.sort(key=lambda d: (seeded_unit(config.seed, "drawn", d.prompt_id), d.identity))
    rows, sizes, total = list[Dialogue](), list[int](), Counter[str]()
    for record, example in _fitting(records, chat, config.length):
        learnt = example.targets[0]
        if total["learnt"] + learnt <= config.tokens:
            rows.append(record)
            sizes.append(example.tokens)
            total.update(learnt=learnt, tokens=example.tokens, refused=examine(record.messages, is_on()) is not None)
        elif total["learnt"] >= (1 - UNUSED / 10) * config.tokens:
            break
    if total["learnt"] < (1 - UNUSED) * config.tokens:
        raise DataError(f"{total['learnt']:,} learnt tokens are all there is; ask for no more by --tokens")
    out.write_rows("train", [d.row() for d in rows], schemas.dialogues())
    # a prompt counts in the sequences: as many learnt tokens may be more updates
    out.manifest.results |= {"dialogues": len(rows), **total, "sequences": len(pack(sizes, config.length))}


def _dialogues(source: DataSource) -> list[Dialogue]:
    return [parse_dialogue(row) for _, _, row in sources.rows(source)]


def _fitting(records: Sequence[Dialogue], chat: Any, length: int) -> Iterator[tuple[Dialogue, Any]]:
    """Records with what is learnt of them, cut as in the training; without those of which not even the first exchange fits."""
    from zephyr.train import encode
    from zephyr.train.batches import Example

    for at in range(0, len(records), 64):
        some = records[at : at + 64]
        for record, found in zip(some, encode.dialogues(some, chat, SFTConfig(max_length=length)), strict=True):
            if not isinstance(found, str):
                yield record, Example(found.tokens.ids, found.tokens.learnt)


# --- measuring -------------------------------------------------------------------------------------------------


class Measured(Section):
    """What a model is measured on."""

    seed: int
    chat_template: str
    train: TrainConfig
    length: Count
    rows: Count
    sampling: SamplingConfig


def measured(config: Measured, made: Work, out: Draft) -> None:
    """Likelihood of held-out rows and sampled answers of one model: the same rows and prompts for all."""
    from zephyr.models import load
    from zephyr.train import score

    ref = made.inputs.models["model"]
    chat = load.load_chat(ref, config.chat_template)
    model = load.load_model(ref, chat)
    given = [(name, d) for name, (source,) in made.inputs.data.items() for d in _dialogues(source)]
    sets: dict[str, list[Dialogue]] = {}
    for name, record in given:
        sets.setdefault(record.source if name == "careful" else name, []).append(record)
    rows: list[dict[str, Any]] = []
    examples = []
    for name, records in sets.items():
        records.sort(key=lambda d: (seeded_unit(0, "held out", d.prompt_id), d.identity))
        for record, example in itertools.islice(_fitting(records, chat, config.length), config.rows):
            refused = examine(record.messages, is_on()) is not None
            rows.append({"set": name, "prompt_id": record.prompt_id, "tokens": example.targets[0], "refused": refused})
            examples.append(example)
    names = [f"{row['set']}, prompt {row['prompt_id'][:16]}" for row in rows]
    sums = score.log_probabilities(model, examples, config.train, "held-out rows", out, names=names)
    out.write_rows("likelihood", [{**row, "nll": -value} for row, value in zip(rows, sums, strict=True)])
    load.ready_to_generate(model)
    out.write_rows("answers", _answers(model, chat, {name: sets[name] for name in (*CAREFUL, "raw")}, config, out))


def _answers(model: Any, chat: Any, sets: Mapping[str, list[Dialogue]], config: Measured, out: Draft) -> list[dict[str, Any]]:
    """Sampled answers to the first turns of so many prompts of each set, with what the filters find in them."""
    from zephyr.models.generate import generate
    from zephyr.progress import bar

    s = config.sampling
    asked: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for name, records in sets.items():
        turns = {d.prompt_id: d.messages[: 1 + (d.messages[0]["role"] == "system")] for d in records}
        short = (p for p, messages in turns.items() if len(chat.encode_prompt(messages)) + s.max_new_tokens <= config.length)
        asked |= {f"{name} {p}": (name, turns[p]) for p in itertools.islice(short, s.prompts)}
    keys, found = list(asked), []
    with bar("answers", len(keys), "answers") as progress:
        settings = {"max_new_tokens": s.max_new_tokens, "temperature": s.temperature, "top_p": s.top_p, "seed": config.seed}
        for at, answer in generate(model, chat, [asked[key][1] for key in keys], names=keys, **settings):
            name, messages = asked[keys[at]]
            hits = all_hits([*messages, {"role": "assistant", "content": answer.text}], is_on())
            filters = [hit.filter for hit in hits if hit.message == len(messages)]  # not what is wrong with the prompt
            out.manifest.tokens += answer.tokens
            row = {"set": name, "prompt_id": keys[at].rpartition(" ")[2], "prompt": messages[-1]["content"], "text": answer.text}
            found.append({**row, "tokens": answer.tokens, "ended": answer.ended, "filters": ",".join(filters)})
            progress.advance()
    return sorted(found, key=lambda row: (row["set"], row["prompt_id"]))


def cells(rows: Iterable[Mapping[str, Any]], value: str, count: str | None = None) -> Cells:
    """Sums by prompt."""
    found: dict[str, tuple[float, int]] = {}
    for row in rows:
        total, n = found.get(row["prompt_id"], (0.0, 0))
        found[row["prompt_id"]] = (total + row[value], n + (row[count] if count else 1))
    return found


def of_answers(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is counted of an answer. One that was cut off at its longest is truncated in any case: that is told by its end alone."""
    hits = set(filter(None, row["filters"].split(",")))
    return {
        "prompt_id": row["prompt_id"],
        "ends with the end-of-sequence token": float(row["ended"]),
        "is refused by a filter (truncation aside)": float(bool(hits - {"truncated"})),
        "disclaims, refuses or calls itself an AI": float(bool(hits & set(VOICE))),
        "loops": float("looping" in hits),
        "ends, but in the midst of a sentence": float(bool(row["ended"]) and "truncated" in hits),
    }


# --- comparing -------------------------------------------------------------------------------------------------


def results(found: Mapping[str, Sequence[Artifact]]) -> dict[str, Any]:
    """Every measure of the base, of both sides, and their difference."""
    likelihood = {side: [a.rows("likelihood") for a in seeds] for side, seeds in found.items()}
    answers = {side: [a.rows("answers") for a in seeds] for side, seeds in found.items()}
    held: dict[str, Any] = {}
    measures: dict[str, Any] = {}
    for name in dict.fromkeys(row["set"] for row in likelihood["base"][0]):
        of = [row for row in likelihood["base"][0] if row["set"] == name]
        held[name] = {"rows": len(of), "tokens": sum(r["tokens"] for r in of), "refused_by_filters": sum(r["refused"] for r in of)}
        here = {s: [cells((r for r in rows if r["set"] == name), "nll", "tokens") for rows in seeds] for s, seeds in likelihood.items()}
        measures[f"NLL per token, {name}"] = _compared(here, share=False)
    for label, sets in {"careful prompts": tuple(CAREFUL), "real prompts": ("raw",)}.items():
        told = {side: [[of_answers(r) for r in rows if r["set"] in sets] for rows in seeds] for side, seeds in answers.items()}
        for what in list(told["base"][0][0])[1:]:
            measures[f"{label}: {what}"] = _compared({s: [cells(rows, what) for rows in seeds] for s, seeds in told.items()}, share=True)
    filters = {
        side: dict(Counter(f for rows in seeds for row in rows for f in filter(None, row["filters"].split(","))))
        for side, seeds in answers.items()
    }
    return {"held_out": held, "measures": measures, "filters_of_answers": filters}


def _compared(seeds: Mapping[str, Sequence[Cells]], *, share: bool) -> dict[str, Any]:
    levels = {side: (compare.share_of if share else compare.level)(given) for side, given in seeds.items()}
    gap = compare.difference(seeds["kept"], seeds["raw"])
    return {**{side: level.json() for side, level in levels.items()}, "kept_minus_raw": (gap.within(-1.0, 1.0) if share else gap).json()}
