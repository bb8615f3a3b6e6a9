"""What one model says of rows that it was not trained on, kept row by row, so that models are compared on the same rows.

pairs       log-probabilities and lengths of both answers, for each set of pairs
dialogues   negative log-likelihood and learnt tokens of the test dialogues
samples     sampled answers to prompts of test dialogues: did they end, did they go on with another's turn, and would the dialogue's own
            answer have ended by then?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import sources
from zephyr.artifacts import Artifact, Draft
from zephyr.errors import DataError
from zephyr.recipe import DataSource, DPOConfig, Section, SFTConfig, TrainConfig, Truncation
from zephyr.records import Dialogue, Message, parse_dialogue, parse_preference, seeded_unit
from zephyr.reproduce.data import MEASURABLE
from zephyr.reproduce.preset import SamplingConfig
from zephyr.text.chat import ROLE_MARKERS, ChatFormat

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef

VERSION = 2
DIALOGUES = "dialogues"
LEARNT = "learnt"  # the pairs that dDPO was trained on


class Config(Section):
    """Settings of a measurement. Lengths are those of the training: what was cut there is cut here."""

    seed: int
    chat_template: str
    train: TrainConfig
    max_dialogue_length: int
    max_length: int
    max_prompt_length: int
    truncation: Truncation
    sampling: SamplingConfig


def config_of(seed: int, chat_template: str, train: TrainConfig, sft: SFTConfig, dpo: DPOConfig, sampling: SamplingConfig) -> Config:
    """The settings of a measurement from those of the training."""
    return Config(
        seed=seed,
        chat_template=chat_template,
        train=train,
        max_dialogue_length=sft.max_length,
        max_length=dpo.max_length,
        max_prompt_length=dpo.max_prompt_length,
        truncation=dpo.truncation,
        sampling=sampling,
    )


# --- measuring -------------------------------------------------------------------------------------------------


def run(config: Config, data: Mapping[str, Sequence[DataSource]], ref: ModelRef, out: Draft) -> None:
    """Measure a model on the test dialogues and on each set of pairs, by its name in `data`; of `learnt` the train rows are taken."""
    from zephyr.models import load

    chat = load.load_chat(ref, config.chat_template)
    model = load.load_model(ref, chat)
    dialogues = [d.record for d in _test(data[DIALOGUES], parse_dialogue, out)["test"]]
    out.write_rows("dialogues", _likelihood(model, chat, dialogues, config, out))
    rows = [row for name, given in data.items() if name != DIALOGUES for row in _pairs(name, model, chat, given, config, out)]
    out.write_rows("pairs", rows)
    load.ready_to_generate(model)
    out.write_rows("samples", _samples(model, chat, dialogues, config, out))


def _test(data: Sequence[DataSource], parse: Any, out: Draft) -> Mapping[str, Sequence[Any]]:
    return sources.collect(data, parse, out, invalid=None, test_fraction=0.0)


def _likelihood(model: Any, chat: ChatFormat, dialogues: Sequence[Dialogue], config: Config, out: Draft) -> list[dict[str, Any]]:
    from zephyr.train import encode, score
    from zephyr.train.batches import Example

    lengths = SFTConfig(max_length=config.max_dialogue_length)
    kept = []
    for record, found in zip(dialogues, encode.dialogues(dialogues, chat, lengths), strict=True):
        if isinstance(found, str):
            out.drop(found, f"prompt {record.prompt_id[:16]}", record.row())
        else:
            kept.append((record, Example(found.tokens.ids, found.tokens.learnt)))
    names = [f"prompt {record.prompt_id[:16]}" for record, _ in kept]
    sums = score.log_probabilities(model, [e for _, e in kept], config.train, "dialogues", out, names=names)
    return [
        {"prompt_id": record.prompt_id, "nll": -value, "tokens": example.targets[0]}
        for (record, example), value in zip(kept, sums, strict=True)
    ]


def _pairs(name: str, model: Any, chat: ChatFormat, data: Sequence[DataSource], config: Config, out: Draft) -> list[dict[str, Any]]:
    from zephyr.train import encode, score

    split = "train" if name == LEARNT else "test"
    items = _test(data, parse_preference, out)[split]
    encoded = encode.pairs(items, chat, config, out, name)
    names = [f"{name}, pair {pair.id[:16]}, {which}" for pair in encoded for which in ("chosen", "rejected")]
    sums = score.log_probabilities(model, [pair.answers for pair in encoded], config.train, name, out, names=names)
    asked = {item.record.pair_id: item.record.prompt_id for item in items}
    return [
        {
            "set": name,
            "prompt_id": asked[pair.id],
            "pair_id": pair.id,
            "chosen_logp": sums[2 * i],
            "rejected_logp": sums[2 * i + 1],
            "chosen_tokens": pair.answers.targets[0],
            "rejected_tokens": pair.answers.targets[1],
        }
        for i, pair in enumerate(encoded)
    ]


def _samples(model: Any, chat: ChatFormat, dialogues: Sequence[Dialogue], config: Config, out: Draft) -> list[dict[str, Any]]:
    """Answers to the first turns of some test dialogues; the same prompts for every model and seed."""
    from zephyr.models.generate import generate, too_long
    from zephyr.progress import bar

    s = config.sampling
    turns = {d.prompt_id: d.messages[: 1 + (d.messages[0]["role"] == "system")] for d in dialogues}
    short = [name for name, messages in turns.items() if too_long(model, chat.encode_prompt(messages)) is None]
    asked = sorted(short, key=lambda name: seeded_unit(0, "asked", name))[: s.prompts]
    own = _own_answers(chat, dialogues, turns)
    found: list[dict[str, Any]] = []
    with bar("samples", len(asked), "answers") as progress:
        answers = generate(
            model, chat, [turns[name] for name in asked], names=asked,
            max_new_tokens=s.max_new_tokens, temperature=s.temperature, top_p=s.top_p, seed=config.seed,
        )  # fmt: skip
        for index, answer in answers:
            out.manifest.tokens += answer.tokens
            found.append({
                "prompt_id": asked[index], "prompt": turns[asked[index]][-1]["content"], "text": answer.text,
                "tokens": answer.tokens, "ended": answer.ended, "role_token": runs_on(answer.text),
                "own_answer_tokens": own.get(asked[index]),
            })  # fmt: skip
            progress.advance()
    return sorted(found, key=lambda row: asked.index(row["prompt_id"]))


def _own_answers(chat: ChatFormat, dialogues: Sequence[Dialogue], turns: Mapping[str, Sequence[Message]]) -> dict[str, int]:
    """How many tokens the first answer of a dialogue has, the ending one included; of what cannot be written in them, nothing."""
    whole = {d.prompt_id: d.messages[: len(turns[d.prompt_id]) + 1] for d in dialogues if len(d.messages) > len(turns[d.prompt_id])}
    found = zip(whole, chat.encode_each(list(whole.values())), strict=True)
    return {name: sum(tokens.learnt) for name, tokens in found if not isinstance(tokens, DataError)}


def runs_on(text: str) -> bool:
    """Whether an answer goes on with a turn of somebody: it writes a marker of a role."""
    return any(marker in text for marker in ROLE_MARKERS)


# --- reading ---------------------------------------------------------------------------------------------------

# of each prompt: the sum of what is measured over its items, and their number
Cells = Mapping[str, tuple[float, int]]


@dataclass(frozen=True)
class Scores:
    """The rows of a measurement."""

    pairs: Sequence[Mapping[str, Any]]
    dialogues: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]]

    @staticmethod
    def read(folder: Path) -> Scores:
        """Those of an artifact."""
        artifact = Artifact.open(folder)
        return Scores(artifact.rows("pairs"), artifact.rows("dialogues"), artifact.rows("samples"))

    def sets(self) -> list[str]:
        """The names of the sets of pairs."""
        return list(dict.fromkeys(str(row["set"]) for row in self.pairs))

    def accuracy(self, name: str, against: Scores, *, per_token: bool = False) -> Cells:
        """Which share of a prompt's pairs the implicit reward log π - log π_against gets right; equal rewards count half.

        Args:
            name: the set.
            against: the model whose log-probabilities are taken off.
            per_token: divide each answer's by its length.
        """
        other = {row["pair_id"]: row for row in against.pairs if row["set"] == name}
        cells: dict[str, tuple[float, int]] = {}
        for row in self.pairs:
            if row["set"] != name:
                continue
            gap = _reward(row, other[row["pair_id"]], "chosen", per_token) - _reward(row, other[row["pair_id"]], "rejected", per_token)
            _add(cells, row["prompt_id"], 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0)
        return cells

    def longer(self, name: str) -> Cells:
        """The same of a judge that takes the longer answer, in tokens."""
        cells: dict[str, tuple[float, int]] = {}
        for row in self.pairs:
            if row["set"] == name:
                gap = row["chosen_tokens"] - row["rejected_tokens"]
                _add(cells, row["prompt_id"], 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0)
        return cells

    def nll(self) -> Cells:
        """Nats, over learnt tokens."""
        return {row["prompt_id"]: (row["nll"], row["tokens"]) for row in self.dialogues}

    def kept(self) -> Cells:
        """Answers that keep to the template: they end with the end-of-sequence token, and write no marker of a role."""
        return {row["prompt_id"]: (float(row["ended"] and not row["role_token"]), 1) for row in self.samples}

    def ended(self) -> Cells:
        """Answers that end with the end-of-sequence token, whatever they wrote before."""
        return {row["prompt_id"]: (float(row["ended"]), 1) for row in self.samples}

    def ran_on(self) -> Cells:
        """Answers that write a marker of a role, whether they end then or not."""
        return {row["prompt_id"]: (float(row["role_token"]), 1) for row in self.samples}

    def cut(self) -> Cells:
        """Answers that the limit cut off before they had ended or written a marker: what `kept` and `ran_on` leave."""
        return {row["prompt_id"]: (float(not row["ended"] and not row["role_token"]), 1) for row in self.samples}

    def own_would_end(self, limit: int) -> float | None:
        """Which share of the dialogues' own answers to the same prompts would have ended within a limit of tokens; None of no rows."""
        own = [row["own_answer_tokens"] for row in self.samples if row["own_answer_tokens"] is not None]
        return sum(tokens <= limit for tokens in own) / len(own) if own else None

    def lengths(self) -> Cells:
        """Tokens of an answer, as far as it was let run."""
        return {row["prompt_id"]: (float(row["tokens"]), 1) for row in self.samples}


def enough(found: Scores, sets: Iterable[str], dropped: Mapping[str, int]) -> None:
    """Refuse what was measured on too few prompts for an interval. The base reads all rows as every model will, so that it tells at once.

    Args:
        found: what the base was measured on.
        sets: the sets of pairs that were to be measured.
        dropped: rows that did not fit, by reason.

    Raises:
        DataError: a measure is of fewer prompts than `MEASURABLE`.
    """
    prompts = {name: len({row["prompt_id"] for row in found.pairs if row["set"] == name}) for name in sets}
    prompts |= {"test dialogues": len({row["prompt_id"] for row in found.dialogues}), "sampled answers": len(found.samples)}
    if few := [f"{name}: {n}" for name, n in prompts.items() if n < MEASURABLE]:
        why = ", ".join(f"{n} ({reason})" for reason, n in dropped.items())
        raise DataError(
            f"too few prompts could be measured ({'; '.join(few)}), and each measure takes {MEASURABLE} or more; "
            f"rows that did not fit: {why or 'none'}; raise data.* or the max_length that they do not fit into"
        )


def _reward(row: Mapping[str, Any], other: Mapping[str, Any], which: str, per_token: bool) -> float:
    tokens = row[f"{which}_tokens"]
    assert tokens == other[f"{which}_tokens"], "both models read the same tokens"
    return float(row[f"{which}_logp"] - other[f"{which}_logp"]) / (tokens if per_token else 1)


def _add(cells: dict[str, tuple[float, int]], name: str, value: float) -> None:
    total, count = cells.get(name, (0.0, 0))
    cells[name] = (total + value, count + 1)
