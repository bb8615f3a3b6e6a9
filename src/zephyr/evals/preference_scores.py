"""Judges that need no API, on preference sets: the implicit reward of a model, a reward model, and the length of an answer beside both."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import durable, hashes
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError, ModelError, UsageError
from zephyr.evals.counts import agree
from zephyr.evals.preference import Group, compared
from zephyr.evals.preference_sets import PreferenceSet, as_row, read
from zephyr.evals.rows import turns
from zephyr.evals.statistics import ALL_EQUAL
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
        durable.write_text(rows, "".join(hashes.canonical(line) + "\n" for line in lines))
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
        """The groups whose answers every model can read, whole."""
        return fitting(given, self._policies, self._chats, self._reward, max_length)

    def values(self, groups: Sequence[Group], beta: float) -> dict[str, Table]:
        """What each measure gives each answer."""
        found: dict[str, Table] = {}
        lengths: Table | None = None
        if self._policies:
            looks = [_look(*pair, groups) for pair in zip(self._policies, self._chats, strict=True)]
            policy, reference = looks[0], looks[1] if len(looks) > 1 else None
            lengths = policy.tokens
            found["implicit_reward"] = rewards(policy, reference, beta, per_token=False)
            found["implicit_reward_per_token"] = rewards(policy, reference, beta, per_token=True)
        if self._reward:
            found["reward_model"], read = judged(self._reward, groups)
            lengths = lengths or read
        found["length"] = lengths or [[float(len(text)) for text, _ in group.answers] for group in groups]
        return found


@dataclass(frozen=True)
class Look:
    """What a model gives every answer of every group: its log-probability in nats, and its length in tokens."""

    sums: Table
    tokens: Table


def fitting(
    given: PreferenceSet, policies: Sequence[ModelRef], chats: Sequence[ChatFormat], reward: RewardModel | None, max_length: int
) -> PreferenceSet:
    """The groups whose answers every model can read, whole; an answer is never cut.

    Raises:
        DataError: none is left.
    """
    kept, left_out = [], dict(given.left_out)
    limit = min([max_length, *(n for n in (*map(_context, policies), reward and reward.longest) if n)])
    for group in given.groups:
        try:
            sizes = [size for chat in chats for size in _sizes(group, chat)]
            sizes += [len(ids) for ids in _encoded(reward, group)] if reward else []
        except (DataError, ModelError):
            left_out[UNWRITTEN] = left_out.get(UNWRITTEN, 0) + 1
            continue
        if max(sizes, default=0) > limit:
            left_out[TOO_LONG] = left_out.get(TOO_LONG, 0) + 1
        else:
            kept.append(group)
    if not kept:
        raise DataError(f"no rows are left to judge; of {given.rows}: " + ", ".join(f"{n} ({why})" for why, n in left_out.items()))
    return replace(given, groups=kept, left_out=left_out)


def judged(reward: RewardModel, groups: Sequence[Group]) -> tuple[Table, Table]:
    """(rewards, lengths in its tokens, the prompt included) of every answer of every group."""
    encoded = [_encoded(reward, group) for group in groups]
    flat = iter(reward.rewards([ids for answers in encoded for ids in answers], "reward model"))
    return [[next(flat) for _ in group.answers] for group in groups], [[float(len(ids)) for ids in answers] for answers in encoded]


def _encoded(reward: RewardModel, group: Group) -> list[tuple[int, ...]]:
    return [reward.encode(turns(group, text)) for text, _ in group.answers]


def _context(ref: ModelRef) -> int | None:
    """How many tokens a model reads, by its configuration."""
    from transformers import AutoConfig

    from zephyr.models.context import context_of
    from zephyr.models.reading import from_pretrained

    return context_of(from_pretrained(AutoConfig.from_pretrained, ref, ref.locate(), "its configuration")).exact


def _sizes(group: Group, chat: ChatFormat) -> list[int]:
    return [sum(map(len, chat.encode_pair(turns(group, text)))) for text, _ in group.answers]


def rewards(policy: Look, reference: Look | None, beta: float, *, per_token: bool) -> Table:
    """The implicit reward beta (log pi - log ref), each by its number of tokens if `per_token`; without a reference, beta log pi."""

    def values(look: Look) -> Table:
        if not per_token:
            return look.sums
        return [[s / n for s, n in zip(*row, strict=True)] for row in zip(look.sums, look.tokens, strict=True)]

    if reference is None:
        return [[beta * value for value in row] for row in values(policy)]
    both = zip(values(policy), values(reference), strict=True)
    return [[beta * (ours - theirs) for ours, theirs in zip(*rows, strict=True)] for rows in both]


def look(model: Any, chat: ChatFormat, groups: Sequence[Group], config: TrainConfig, label: str, out: Draft) -> Look:
    """What a model in memory gives every answer of every group."""
    from zephyr.train import score as scoring
    from zephyr.train.batches import branching

    encoded = [[chat.encode_pair(turns(group, text)) for text, _ in group.answers] for group in groups]
    examples = [branching(answers[0][0], *(ids for _, ids in answers)) for answers in encoded]
    names = [f"prompt {group.prompt_id[:16]}, answer {i}" for group in groups for i in range(len(group.answers))]
    sums = iter(scoring.log_probabilities(model, examples, config, label, out, names=names))
    lengths = [[float(len(ids)) for _, ids in answers] for answers in encoded]
    return Look([[next(sums) for _ in group.answers] for group in groups], lengths)


def _look(ref: ModelRef, chat: ChatFormat, groups: Sequence[Group]) -> Look:
    """The same of a model that is loaded for it, in float32."""
    from zephyr.models import load

    model = load.load_model(ref, chat)
    with tempfile.TemporaryDirectory() as folder:  # what is counted on the way is not kept: there is no artifact
        out = Draft(Path(folder), Path(folder), Manifest("score", "", {}, {}))
        return look(model, chat, groups, TrainConfig(dtype="float32"), f"{ref.name}: answers", out)


def describe(found: Mapping[str, Any]) -> str:
    """The results in words, no number without its interval."""
    first = next(iter(found["results"].values()))
    lines = [f"{first['pairs']} pairs of {first['prompts']} prompts; the share in which the better answer has the higher value"]
    lines += measured(found)
    if found["model"] and not found["reference"]:
        lines.append("without --reference the implicit reward is beta log pi: it holds rare words against an answer, and length")
    return "\n".join(lines)


def measured(found: Mapping[str, Any], names: Mapping[str, str] | None = None) -> list[str]:
    """The measures of one set, and what was left out, a line each.

    Args:
        found: of the set.
        names: what models are called, where that is not what they are known under.
    """
    lines = []
    labels = {name: _label(name, found, names or {}) for name in found["results"]}
    subsets = {subset for result in found["results"].values() for subset in result["by_subset"]}
    wide = max(28, *(len(label) + 2 for label in labels.values()))
    widest = max([38, *(len(subset) + 2 for subset in subsets)])
    for name, result in found["results"].items():
        ties = f", {result['ties']} {agree(result['ties'], 'tie counts', 'ties count')} as wrong" if result["ties"] else ""
        lines.append(f"  {labels[name]:<{wide}}{_percent(result['accuracy'], result['ci95'])}{ties}")
        if gap := result.get("above_length"):
            apart = "" if gap["told_apart"] or not gap["ci95"] else ": cannot be told apart from the longer answer wins"
            span = "[{:.1f}, {:.1f}]".format(*(100 * end for end in gap["ci95"])) if gap["ci95"] else f"({ALL_EQUAL})"
            lines.append(f"  {'':<{wide}}{100 * gap['difference']:+.1f} {span} above length{apart}")
        if result["mean_of_subsets"]["subsets"] > 1:
            mean = result["mean_of_subsets"]
            lines.append(f"  {'':<{wide}}{_percent(mean['value'], mean['ci95'])} mean of {mean['subsets']} subsets")
            lines += [
                f"    {subset:<{widest}}{_percent(part['accuracy'], part['ci95'])}, {part['pairs']} {agree(part['pairs'], 'pair', 'pairs')}"
                for subset, part in result["by_subset"].items()
            ]
    return lines + [f"left out: {n} {agree(n, 'row', 'rows')}, {why}" for why, n in found["left_out"].items()]


def _label(measure: str, found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    if measure == "length":
        return f"length in {found['length_in']}"
    stem = measure.removesuffix("_per_token")
    return names.get(stem, stem.replace("_", " ")) + measure.removeprefix(stem).replace("_", " ")


def _percent(value: float, interval: Sequence[float] | None) -> str:
    ends = "no interval" if interval is None else "{:.1f} to {:.1f}".format(*(100 * end for end in interval))
    return f"{100 * value:.1f}% ({ends})"
