"""How long an experiment will take on this machine: tokens counted, rates from a few real steps of its own base."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import pipeline, sources
from zephyr.artifacts import Draft, Manifest
from zephyr.models import load
from zephyr.models.load import ModelRef
from zephyr.models.registry import cache_dir
from zephyr.recipe import OptimizerConfig
from zephyr.records import parse_dialogue, parse_preference
from zephyr.reproduce import base, work
from zephyr.reproduce.experiment import Experiment
from zephyr.reproduce.graph import BASE, BY_HEART, CURVE, Step

if TYPE_CHECKING:
    from zephyr.estimate.volume import Length

SAMPLE = 100  # rows whose lengths are taken
ANSWERS = 16  # that are generated at once


@dataclass(frozen=True)
class Rates:
    """Seconds a token through the model, and seconds a token of a batch of answers; mean tokens and counts of rows."""

    train: float
    look: float
    answer: float
    tokens: Mapping[str, float]
    rows: Mapping[str, int]


def seconds(experiment: Experiment, todo: Sequence[tuple[Step, int]], outstanding: Collection[Path]) -> dict[str, float]:
    """By kind of step, what is still to be made; the base and its own scores too, where they are `outstanding`. The rows must be there."""
    p = experiment.preset
    with _a_base(experiment, outstanding) as (ref, characters_a_token):
        rates = _measured(experiment, ref)
    found: dict[str, float] = {}
    if experiment.out / "base" in outstanding:
        text = sum(len(row["text"]) for s in experiment.rows("text") for _, _, row in sources.rows(s, whole=True))
        found["base"] = rates.train * p.base.training.epochs * text / characters_a_token
    if experiment.out / "base.scores" in outstanding:
        found["scores"] = _of(Step("scores", BASE), experiment, rates)
    for step, _ in todo:
        found[step.kind] = found.get(step.kind, 0.0) + _of(step, experiment, rates)
    return found


def _of(step: Step, experiment: Experiment, rates: Rates) -> float:
    """Of one step."""
    p, m, tokens, rows = experiment.preset, step.model, rates.tokens, rates.rows
    pairs = {split: tokens["pair"] * rows[f"pairs {split}"] for split in ("train", "test")}
    if step.kind == "reference":
        return rates.look * (pairs["train"] + pairs["test"])
    if step.kind == "sft" and m.best:
        return rates.train * m.best * tokens["chosen"] * rows["pairs train"]
    if step.kind == "sft":
        dialogues = {split: tokens["dialogue"] * rows[f"dialogues {split}"] for split in ("train", "test")}
        return rates.train * m.sft * dialogues["train"] + rates.look * 2 * dialogues["test"]
    if step.kind == "dpo":
        updates = -(-rows["pairs train"] // p.dpo.batch_size) * m.dpo
        looks = 2 + updates // p.curve_every if m == CURVE else 0
        return rates.train * m.dpo * pairs["train"] + rates.look * looks * pairs["test"]
    measured = tokens["dialogue"] * rows["dialogues test"] + tokens["pair"] * (rows["pairs test"] + rows["other test"])
    measured += pairs["train"] if m == BASE or m in BY_HEART else 0.0
    batches = -(-min(p.sampling.prompts, rows["dialogues test"]) // ANSWERS)
    return rates.look * measured + rates.answer * batches * p.sampling.max_new_tokens


@contextmanager
def _a_base(experiment: Experiment, outstanding: Collection[Path]) -> Iterator[tuple[ModelRef, float]]:
    """The base, or one of the same shape that has learnt nothing; and how many characters its tokens have."""
    texts = [row["text"][:2000] for s in experiment.rows("text") for _, _, row in islice(sources.rows(s, whole=True), 2000)]
    config = experiment.base()
    if experiment.out / "base" not in outstanding:
        ref = load.refer(config, cache_dir() / pipeline.FINGERPRINTS)
        tokenizer = load.load_tokenizer(ref)
        yield ref, _characters(tokenizer, texts)
        return
    with tempfile.TemporaryDirectory() as name:
        from transformers.utils import logging

        logging.disable_progress_bar()
        tokenizer = base.vocabulary(texts, experiment.preset.base.shape.vocab_size)
        base.random_model(experiment.preset.base.shape, tokenizer, 0).save_pretrained(name)
        tokenizer.save_pretrained(name)
        yield ModelRef(name, "not yet trained"), _characters(tokenizer, texts)


def _characters(tokenizer: Any, texts: Sequence[str]) -> float:
    tokens = sum(map(len, tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]))
    return sum(map(len, texts)) / max(1, tokens)


def _measured(experiment: Experiment, ref: ModelRef) -> Rates:
    """Lengths of some rows, and the time of a few steps on rows of such lengths."""
    from zephyr.estimate import speed

    p = experiment.preset
    chat = load.load_chat(ref, "zephyr")
    tokens, lengths, rows = _lengths(experiment, chat)
    config: OptimizerConfig = p.dpo
    found = speed.measure(ref, config, p.train, lengths, 2 * p.train.micro_batch_tokens)  # two passes a batch: this is a forecast
    return Rates(found.token, found.look, _answering(ref, chat), tokens, rows)


def _lengths(experiment: Experiment, chat: Any) -> tuple[dict[str, float], list[Length], dict[str, int]]:
    from zephyr.estimate.volume import Length
    from zephyr.train import encode

    p = experiment.preset
    with tempfile.TemporaryDirectory() as folder:  # what does not fit is the stage's to count
        out = Draft(Path(folder), Path(folder), Manifest("forecast", "", {}, {}))
        dialogues = [parse_dialogue(row) for s in experiment.rows("dialogues", "train") for _, _, row in islice(sources.rows(s), SAMPLE)]
        items = sources.collect(experiment.rows("pairs", "train"), parse_preference, out, invalid=None, test_fraction=0.0)["train"]
        spoken = [e for e in encode.dialogues(dialogues, chat, p.sft) if not isinstance(e, str)]
        chosen = [e for e in encode.dialogues([_chosen(i.record) for i in items[:SAMPLE]], chat, p.best) if not isinstance(e, str)]
        pairs = [pair.answers for pair in encode.pairs(items[:SAMPLE], chat, p.dpo, out, "train")]
    tokens = {
        "dialogue": sum(len(e.tokens.ids) for e in spoken) / max(1, len(dialogues)),
        "chosen": sum(len(e.tokens.ids) for e in chosen) / max(1, len(items[:SAMPLE])),
        "pair": sum(e.tokens for e in pairs) / max(1, len(pairs)),
    }
    rows: dict[str, int] = {}
    for name in ("dialogues", "pairs", "other"):
        manifest = work.manifest_of(experiment.out / "rows" / name)
        rows |= {f"{name} {split}": n for split, n in (manifest.rows_out if manifest else {}).items()}
    return tokens, [Length(len(e.ids), tuple(map(len, e.branches))) for e in pairs], rows


def _chosen(pair: Any) -> Any:
    return parse_dialogue({"prompt": pair.prompt, "prompt_id": pair.prompt_id, "messages": pair.chosen})


def _answering(ref: ModelRef, chat: Any) -> float:
    """Seconds for one token more of each of some answers."""
    from zephyr.models.generate import generate

    model = load.load_model(ref, chat)
    load.ready_to_generate(model)
    names = [str(i) for i in range(ANSWERS)]
    times = []
    for tokens in (2, 12):
        began = time.perf_counter()
        turns: list[Any] = [[{"role": "user", "content": "One, two, three?"}] for _ in names]
        list(generate(model, chat, turns, names=names, max_new_tokens=tokens, temperature=1.0, top_p=1.0, seed=0))
        times.append(time.perf_counter() - began)
    return max(0.0, times[1] - times[0]) / 10


def described(by_kind: Mapping[str, float]) -> str:
    """In words."""
    parts = ", ".join(f"{kind} {_minutes(s)}" for kind, s in by_kind.items())
    return f"forecast: about {_minutes(sum(by_kind.values()))} ({parts}), from a few measured steps on this machine"


def _minutes(s: float) -> str:
    return f"{s:.0f} s" if s < 90 else f"{s / 60:.0f} min" if s < 5400 else f"{s / 3600:.1f} h"
