"""Judges that need no API, on preference sets: the implicit reward of a model, a reward model, and the length of an answer beside both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import artifacts
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError, UsageError
from zephyr.evals.preference import Group, compared
from zephyr.evals.preference_sets import PreferenceSet, as_row, read
from zephyr.evals.rows import turns
from zephyr.recipe import DataSource, ModelConfig, TrainConfig

if TYPE_CHECKING:
    from zephyr.evals.reward_model import RewardModel
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

TOO_LONG = "an answer is longer than a model reads"
UNWRITTEN = "a chat template does not take the conversation"
Table = list[list[float]]


def score(
    data: Sequence[str],
    *,
    model: str | None = None,
    reference: str | None = None,
    reward_model: str | None = None,
    beta: float = 0.1,
    chat_template: str = "tokenizer",
    max_length: int = 2048,
    score_by: str = "overall",
    limit: int | None = None,
    rows: Path | None = None,
) -> dict[str, Any]:
    """The accuracy of judges on preference sets.

    Args:
        data: files, folders, artifacts or hub names; see `preference_sets`.
        model: whose implicit reward beta (log pi - log pi_ref) is measured.
        reference: the model it was trained from; without one, the reward is beta log pi.
        reward_model: a sequence classifier with one output.
        beta: scales the implicit reward and its margin; the accuracy does not depend on it.
        chat_template: of model and reference: `tokenizer` (each its own), `zephyr` or a Jinja file.
        max_length: pairs with an answer that is longer, its prompt included, are left out and counted.
        score_by: which score orders rated answers, `overall` or `mean`.
        limit: so many rows at most, the first.
        rows: where to write what each answer got, a JSON object a line.

    Returns:
        `results` by measure (see `preference.compared`), `rows`, `left_out` by reason, and what was measured how.

    Raises:
        UsageError: a reference without a model.
        DataError: a row that cannot be used, or nothing to compare.
    """
    if reference and not model:
        raise UsageError("--reference needs --model: the implicit reward is of a model against the one it was trained from")
    given = read([DataSource(path=path) for path in data], score=score_by, limit=limit)
    judges = _Judges(model, reference, reward_model, chat_template)
    kept = judges.fitting(given, max_length)
    values = judges.values(kept.groups, beta)
    if rows is not None:
        lines = [as_row(group, {name: table[i] for name, table in values.items()}) for i, group in enumerate(kept.groups)]
        artifacts.write_text(rows, "".join(artifacts.canonical(line) + "\n" for line in lines))
    return {
        "results": compared(kept.groups, values),
        "rows": kept.rows,
        "left_out": dict(kept.left_out),
        "model": model,
        "reference": reference,
        "reward_model": reward_model,
        "beta": beta if model else None,
        "length_in": "tokens" if model or reward_model else "characters",
    }


class _Judges:
    """The models that were asked for; each is in memory only while it computes."""

    def __init__(self, model: str | None, reference: str | None, reward_model: str | None, chat_template: str) -> None:
        from zephyr.models import load

        self._policies = [load.refer(ModelConfig(path=name)) for name in (model, reference) if name]
        self._chats = [load.load_chat(ref, chat_template) for ref in self._policies]
        self._reward: RewardModel | None = None
        if reward_model:
            from zephyr.evals.reward_model import RewardModel

            self._reward = RewardModel(load.refer(ModelConfig(path=reward_model)))

    def fitting(self, given: PreferenceSet, max_length: int) -> PreferenceSet:
        """The groups whose answers every model can read, whole; an answer is never cut.

        Raises:
            DataError: none is left.
        """
        kept, left_out = [], dict(given.left_out)
        limit = min([max_length, *(n for n in (*map(_context, self._policies), self._reward and self._reward.longest) if n)])
        for group in given.groups:
            try:
                sizes = [size for chat in self._chats for size in _sizes(group, chat)]
                sizes += [len(ids) for ids in self._encoded(group)]
            except DataError:
                left_out[UNWRITTEN] = left_out.get(UNWRITTEN, 0) + 1
                continue
            if max(sizes, default=0) > limit:
                left_out[TOO_LONG] = left_out.get(TOO_LONG, 0) + 1
            else:
                kept.append(group)
        if not kept:
            raise DataError(f"no rows are left to judge; of {given.rows}: " + ", ".join(f"{n} ({why})" for why, n in left_out.items()))
        return replace(given, groups=kept, left_out=left_out)

    def values(self, groups: Sequence[Group], beta: float) -> dict[str, Table]:
        """What each measure gives each answer."""
        found: dict[str, Table] = {}
        lengths: Table | None = None
        if self._policies:
            sums, tokens = zip(*(_log_probabilities(*pair, groups) for pair in zip(self._policies, self._chats, strict=True)), strict=True)
            lengths = tokens[0]
            found["implicit_reward"] = _rewards(groups, sums, None, beta)
            found["implicit_reward_per_token"] = _rewards(groups, sums, tokens, beta)
        if self._reward:
            encoded = [self._encoded(group) for group in groups]
            flat = iter(self._reward.rewards([ids for answers in encoded for ids in answers], "reward model"))
            found["reward_model"] = [[next(flat) for _ in group.answers] for group in groups]
            lengths = lengths or [[float(len(ids)) for ids in answers] for answers in encoded]
        found["length"] = lengths or [[float(len(text)) for text, _ in group.answers] for group in groups]
        return found

    def _encoded(self, group: Group) -> list[tuple[int, ...]]:
        return [] if self._reward is None else [self._reward.encode(turns(group, text)) for text, _ in group.answers]


def _context(ref: ModelRef) -> int | None:
    """How many tokens a model reads, by its configuration."""
    from transformers import AutoConfig

    from zephyr.models.context import context_of
    from zephyr.models.reading import from_pretrained

    return context_of(from_pretrained(AutoConfig.from_pretrained, ref, ref.locate(), "its configuration")).exact


def _sizes(group: Group, chat: ChatFormat) -> list[int]:
    return [sum(map(len, chat.encode_pair(turns(group, text)))) for text, _ in group.answers]


def _rewards(groups: Sequence[Group], sums: Sequence[Table], tokens: Sequence[Table] | None, beta: float) -> Table:
    """The implicit reward beta (log pi - log ref), each by its number of tokens where these are given; without ref, beta log pi."""

    def value(which: int, group: int, answer: int) -> float:
        return sums[which][group][answer] / (tokens[which][group][answer] if tokens else 1.0)

    return [
        [beta * (value(0, g, a) - (value(1, g, a) if len(sums) > 1 else 0.0)) for a in range(len(group.answers))]
        for g, group in enumerate(groups)
    ]


def _log_probabilities(ref: ModelRef, chat: ChatFormat, groups: Sequence[Group]) -> tuple[Table, Table]:
    """Log-probability in nats, and length in tokens, of every answer of every group, in float32."""
    from zephyr.models import load
    from zephyr.train import score as scoring
    from zephyr.train.batches import branching

    model = load.load_model(ref, chat)
    encoded = [[chat.encode_pair(turns(group, text)) for text, _ in group.answers] for group in groups]
    examples = [branching(answers[0][0], *(ids for _, ids in answers)) for answers in encoded]
    names = [f"prompt {group.prompt_id[:16]}, answer {i}" for group in groups for i in range(len(group.answers))]
    with tempfile.TemporaryDirectory() as folder:  # what is counted on the way is not kept: there is no artifact
        out = Draft(Path(folder), Path(folder), Manifest("score", "", {}, {}))
        config = TrainConfig(dtype="float32")
        sums = iter(scoring.log_probabilities(model, examples, config, f"{ref.name}: answers", out, names=names))
    lengths = [[float(len(ids)) for _, ids in answers] for answers in encoded]
    return [[next(sums) for _ in group.answers] for group in groups], lengths


def describe(found: Mapping[str, Any]) -> str:
    """The results in words, no number without its interval."""
    results = found["results"]
    first = next(iter(results.values()))
    lines = [f"{first['pairs']} pairs of {first['prompts']} prompts; the share in which the better answer has the higher value"]
    for name, result in results.items():
        label = f"length in {found['length_in']}" if name == "length" else name.replace("_", " ")
        ties = f", {result['ties']} ties count as wrong" if result["ties"] else ""
        lines.append(f"  {label:<28}{_percent(result['accuracy'], result['ci95'])}{ties}")
        if gap := result.get("above_length"):
            apart = "" if gap["told_apart"] else ": cannot be told apart from the longer answer wins"
            low, high = gap["ci95"]
            lines.append(f"  {'':<28}{100 * gap['difference']:+.1f} [{100 * low:.1f}, {100 * high:.1f}] above length{apart}")
        if result["mean_of_subsets"]["subsets"] > 1:
            mean = result["mean_of_subsets"]
            lines.append(f"  {'':<28}{_percent(mean['value'], mean['ci95'])} mean of {mean['subsets']} subsets")
            lines += [
                f"    {subset:<38}{_percent(part['accuracy'], part['ci95'])}, {part['pairs']} pairs"
                for subset, part in result["by_subset"].items()
            ]
    lines += [f"left out: {n} rows, {why}" for why, n in found["left_out"].items()]
    if found["model"] and not found["reference"]:
        lines.append("without --reference the implicit reward is beta log pi: it holds rare words against an answer, and length")
    return "\n".join(lines)


def _percent(value: float, interval: Sequence[float] | None) -> str:
    ends = "no interval" if interval is None else "{:.1f} to {:.1f}".format(*(100 * end for end in interval))
    return f"{100 * value:.1f}% ({ends})"
