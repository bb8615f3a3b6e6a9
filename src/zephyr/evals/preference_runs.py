"""Preference sets under the models of a run, each set against the one before it; a reward model and the answers' length beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import durable, hashes
from zephyr.artifacts import Draft
from zephyr.errors import DataError, UsageError
from zephyr.evals.preference import compared
from zephyr.evals.preference_scores import Look, Table, fitting, judged, look, rewards
from zephyr.evals.preference_sets import PreferenceSet, as_row, read
from zephyr.recipe import ModelConfig, TrainConfig
from zephyr.recipe.evaluation import PreferencesConfig
from zephyr.records import Row

if TYPE_CHECKING:
    from zephyr.models.load import ModelRef
    from zephyr.text.chat import ChatFormat

# what a stage knows the two further models under
REFERENCE, REWARD_MODEL = "reference", "reward model"
ALONE = (
    "The implicit reward on preference sets is β log π of one model alone, which holds rare words and length against an answer; name the "
    "model it was trained from in evaluate.preferences.reference."
)


@dataclass(frozen=True)
class Sets:
    """The rows of each set that every model can read, and what the reward model gives them."""

    given: Mapping[str, PreferenceSet] = field(default_factory=dict)
    rewards: Mapping[str, Table] = field(default_factory=dict)


def models(config: PreferencesConfig | None) -> dict[str, ModelConfig]:
    """The models that are needed beside those that are measured."""
    named = {REFERENCE: config.reference, REWARD_MODEL: config.reward_model} if config else {}
    return {name: ModelConfig(path=path, chat_template="tokenizer") for name, path in named.items() if path}


def refuse_itself(refs: Mapping[str, ModelRef]) -> None:
    """Refuse a reference that is the model it is to be set against; nothing is loaded for it.

    Args:
        refs: by name, in the order in which they were trained.

    Raises:
        UsageError: naming both.
    """
    first = next((ref for name, ref in refs.items() if name not in (REFERENCE, REWARD_MODEL)), None)
    reference = refs.get(REFERENCE)
    if first and reference and first.digest == reference.digest:
        raise UsageError(
            f"the reference, {reference.name}, has the content of the model that is set against it, {first.name}: all rewards would be "
            "nought; name the model that it was trained from (--reference, or evaluate.preferences.reference)"
        )


def read_all(config: PreferencesConfig | None, limit: int | None) -> dict[str, PreferenceSet]:
    """The sets, by name; no model is needed for it.

    Raises:
        DataError: a row that cannot be read, or a set in which nothing can be compared.
    """
    return {name: read([source], score=config.score, limit=limit) for name, source in config.sets.items()} if config else {}


def fitted(
    config: PreferencesConfig | None, given: Mapping[str, PreferenceSet], refs: Mapping[str, ModelRef], chats: Mapping[str, ChatFormat]
) -> Sets:
    """What all models can read. The reward model is here and gone before any other is loaded.

    Args:
        config: of the recipe.
        given: what `read_all` found.
        refs: the models that are measured, the reference and the reward model among them.
        chats: how those that are measured, and the reference, are spoken to.

    Raises:
        DataError: nothing is left of a set.
        UsageError: the reference is the model itself.
    """
    if config is None:
        return Sets()
    refuse_itself(refs)
    reward = None
    if REWARD_MODEL in refs:
        from zephyr.evals.reward_model import RewardModel

        reward = RewardModel(refs[REWARD_MODEL])
    kept = {}
    for name, found in given.items():
        try:
            kept[name] = fitting(found, [refs[n] for n in chats], list(chats.values()), reward, config.max_length)
        except DataError as error:
            raise DataError(f"evaluate.preferences.sets.{name}: {error}") from None
    return Sets(kept, {name: judged(reward, found.groups)[0] for name, found in kept.items()} if reward else {})


def looks(model: Any, chat: ChatFormat, sets: Sets, config: TrainConfig, label: str, out: Draft) -> dict[str, Look]:
    """What a model in memory gives the answers of each set."""
    return {name: look(model, chat, found.groups, config, f"{label}: {name}", out) for name, found in sets.given.items()}


def results(sets: Sets, found: Mapping[str, Mapping[str, Look]], beta: float, out: Draft) -> dict[str, Row]:
    """By set, what each measure is worth (see `preference.compared`); the rows go into the artifact.

    Args:
        sets: what was compared.
        found: by model, in the order in which they were trained, the reference first; each is set against the one before it. A model
            that is alone has beta log pi for a reward.
        beta: scales the reward and its margin; the accuracy does not depend on it.
        out: where the rows are written and what has to be known is noted.
    """
    order = list(found)
    before: dict[str, str | None] = dict(zip(order[1:], order, strict=False)) if len(order) > 1 else {order[0]: None}
    if None in before.values():
        out.note(ALONE)
    return {name: _of_set(name, given, sets.rewards.get(name), found, before, beta, out) for name, given in sets.given.items()}


def _of_set(
    name: str,
    given: PreferenceSet,
    reward: Table | None,
    found: Mapping[str, Mapping[str, Look]],
    before: Mapping[str, str | None],
    beta: float,
    out: Draft,
) -> Row:
    values: dict[str, Table] = {}
    for model, earlier in before.items():
        reference = found[earlier][name] if earlier else None
        values[model] = rewards(found[model][name], reference, beta, per_token=False)
        values[f"{model}_per_token"] = rewards(found[model][name], reference, beta, per_token=True)
    if reward is not None:
        values["reward_model"] = reward
    values["length"] = next(iter(found.values()))[name].tokens
    _write(out.path / "data" / f"preferences.{name}.jsonl", given, values)
    return {
        "results": compared(given.groups, values),
        "rows": given.rows,
        "left_out": dict(given.left_out),
        "against": dict(before),
        "beta": beta,
        "length_in": "tokens",
    }


def _write(path: Path, given: PreferenceSet, values: Mapping[str, Table]) -> None:
    path.parent.mkdir(exist_ok=True)
    rows = (as_row(group, {name: table[i] for name, table in values.items()}) for i, group in enumerate(given.groups))
    durable.write_text(path, "".join(hashes.canonical(row) + "\n" for row in rows))


def items(sets: Mapping[str, PreferenceSet]) -> dict[str, Mapping[str, Sequence[str]]]:
    """The prompts of each set, by their ids: what is looked for in training data."""
    return {
        name: {group.prompt_id: [m["content"] for m in group.context if m["role"] == "user"] for group in found.groups}
        for name, found in sets.items()
    }
