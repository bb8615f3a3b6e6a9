"""What the two stages learn: a dialogue's tokens (dSFT) or a pair's difference (dDPO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from zephyr import objectives
from zephyr.recipe import DPOConfig
from zephyr.train.batches import Example

Stats = dict[str, float]

ROUNDING = 1e-6  # relative, of a summed log-probability computed with products in float32


class Item(Protocol):
    """What the order and the batches are made of: one dialogue, one pack of them, one pair."""

    @property
    def id(self) -> str:
        """Names it in errors and decides its place in an epoch."""

    @property
    def examples(self) -> Sequence[Example]:
        """Its sequences."""

    @property
    def weight(self) -> int:
        """What the loss is a mean over: predicted tokens (dSFT) or pairs (dDPO)."""

    @property
    def tokens(self) -> int:
        """How many go through the model."""


def tokens_of(item: Item) -> int:
    """How many go through the model."""
    return item.tokens


def names_of(items: Sequence[str]) -> str:
    """Ids as an error names them: the first few."""
    names = list(dict.fromkeys(items))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def described(stats: Stats) -> str:
    """The means that are shown while it runs."""
    shown = [("loss", "loss"), ("accuracy", "reward accuracy"), ("margin", "margin")]
    return ", ".join(f"{label} {stats[name]:.4f}" for name, label in shown if name in stats)


ItemT = TypeVar("ItemT", bound=Item)
ItemIn = TypeVar("ItemIn", bound=Item, contravariant=True)


class Task(Protocol[ItemIn]):
    """Sequence log-probabilities to a loss; sums, not means, so that any split into micro-batches adds up to the same."""

    @property
    def by_token(self) -> bool:
        """The loss is a sum over tokens, the same of each: what is asked of one does not depend on the others."""

    def loss(self, sums_S: Tensor, items: Sequence[ItemIn]) -> Tensor:
        """The summed loss of the items."""

    def stats(self, sums_S: Tensor, items: Sequence[ItemIn]) -> Stats:
        """Sums over the items of what is shown beside it."""


@dataclass(frozen=True)
class Dialogues:
    """One sequence to learn, made of one dialogue or of several packed into `max_length` tokens."""

    id: str
    examples: tuple[Example, ...]

    @property
    def weight(self) -> int:
        """Predicted tokens."""
        return sum(n for e in self.examples for n in e.targets)

    @property
    def tokens(self) -> int:
        """Of all its dialogues."""
        return sum(e.tokens for e in self.examples)


@dataclass(frozen=True)
class Pair:
    """A preference, with what the frozen reference says of both answers (log-probabilities in nats, summed); NaN where there is none."""

    id: str
    answers: Example
    reference_chosen: float
    reference_rejected: float

    @property
    def examples(self) -> tuple[Example]:
        """The prompt with its two branches: chosen, then rejected."""
        return (self.answers,)

    @property
    def weight(self) -> int:
        """One pair."""
        return 1

    @property
    def tokens(self) -> int:
        """Those of the prompt once."""
        return self.answers.tokens


class SFT:
    """Maximum likelihood: the negative log-probability of the learnt tokens."""

    by_token = True

    def loss(self, sums_S: Tensor, items: Sequence[Item]) -> Tensor:
        """Summed over tokens, in nats."""
        return -sums_S.sum()

    def stats(self, sums_S: Tensor, items: Sequence[Item]) -> Stats:
        """Nothing beside the loss."""
        return {}


@dataclass(frozen=True)
class Preferences:
    """A pair's difference: `objective` takes the four log-probabilities of a batch of pairs and gives a loss each.

    Args:
        objective: a function of `zephyr.objectives`, its settings bound.
        beta: of the reward that is shown: beta (log pi - log ref), or without a reference beta log pi per token.
        by_mean: the objective is about log-probabilities per token, not summed.
        has_reference: the objective compares the policy with a frozen model.
    """

    objective: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    beta: float
    by_mean: bool = False
    has_reference: bool = True
    by_token = False

    def loss(self, sums_S: Tensor, items: Sequence[Pair]) -> Tensor:
        """Summed over pairs."""
        logp_B2, reference_B2 = sums_S.reshape(-1, 2), _references(items, sums_S.device)
        if self.by_mean:
            tokens_B2 = _tokens(items, sums_S.device)
            logp_B2, reference_B2 = logp_B2 / tokens_B2, reference_B2 / tokens_B2
        return self.objective(logp_B2[:, 0], logp_B2[:, 1], reference_B2[:, 0], reference_B2[:, 1]).sum()

    @torch.no_grad()
    def stats(self, sums_S: Tensor, items: Sequence[Pair]) -> Stats:
        """For each pair: who wins, by how much, and the log-probabilities."""
        logp_B2 = sums_S.reshape(-1, 2)
        value_B2 = logp_B2 if self.has_reference else logp_B2 / _tokens(items, sums_S.device)
        reward_B2 = self.beta * (value_B2 - _references(items, sums_S.device) if self.has_reference else value_B2)
        margin_B = reward_B2[:, 0] - reward_B2[:, 1]
        # equal rewards prefer neither: half a win, so that an untrained model scores 0.5; equal is what float32 products cannot tell apart
        tie_B = margin_B.abs() <= ROUNDING * self.beta * value_B2.abs().sum(1)
        wins_B = torch.where(tie_B, 0.5, (margin_B > 0).double())
        sums = torch.cat([wins_B.sum()[None], margin_B.sum()[None], reward_B2.sum(0), logp_B2.sum(0)]).tolist()
        names = ("accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_logp", "rejected_logp")
        return dict(zip(names, sums, strict=True))


def preferences(config: DPOConfig) -> Preferences:
    """The objective that a recipe names, with its settings."""
    beta = config.beta
    match config.objective:
        case "dpo":
            return Preferences(partial(objectives.dpo, beta=beta), beta)
        case "cdpo":
            return Preferences(partial(objectives.cdpo, beta=beta, label_smoothing=config.label_smoothing), beta)
        case "ipo":
            return Preferences(partial(objectives.ipo, beta=beta), beta, by_mean=True)
        case "simpo":
            simpo = partial(objectives.simpo, beta=beta, gamma=config.gamma)
            return Preferences(lambda chosen_B, rejected_B, *_: simpo(chosen_B, rejected_B), beta, by_mean=True, has_reference=False)


def _references(items: Sequence[Pair], device: torch.device) -> Tensor:
    return torch.tensor([(p.reference_chosen, p.reference_rejected) for p in items], dtype=torch.float64, device=device).reshape(-1, 2)


def _tokens(items: Sequence[Pair], device: torch.device) -> Tensor:
    return torch.tensor([p.answers.targets for p in items], dtype=torch.float64, device=device).reshape(-1, 2)
