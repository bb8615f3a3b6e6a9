"""What the two stages learn: a dialogue's tokens (dSFT) or a pair's difference (dDPO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from zephyr.objectives import dpo
from zephyr.train.batches import Example

Stats = dict[str, float]


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


ItemT = TypeVar("ItemT", bound=Item)
ItemIn = TypeVar("ItemIn", bound=Item, contravariant=True)


class Task(Protocol[ItemIn]):
    """Sequence log-probabilities to a loss; sums, not means, so that any split into micro-batches adds up to the same."""

    def loss(self, sums_S: Tensor, items: Sequence[ItemIn]) -> tuple[Tensor, Stats]:
        """The summed loss of the items, and sums of what is shown beside it."""


@dataclass(frozen=True)
class Dialogues:
    """One sequence to learn, made of one dialogue or of several packed into `max_length` tokens."""

    id: str
    examples: tuple[Example, ...]

    @property
    def weight(self) -> int:
        """Predicted tokens."""
        return sum(e.targets for e in self.examples)


@dataclass(frozen=True)
class Pair:
    """A preference, with what the frozen reference says of both answers (log-probabilities in nats, summed)."""

    id: str
    chosen: Example
    rejected: Example
    reference_chosen: float
    reference_rejected: float

    @property
    def examples(self) -> tuple[Example, Example]:
        """The chosen sequence, then the rejected."""
        return (self.chosen, self.rejected)

    @property
    def weight(self) -> int:
        """One pair."""
        return 1


class SFT:
    """Maximum likelihood: the negative log-probability of the learnt tokens."""

    def loss(self, sums_S: Tensor, items: Sequence[Dialogues]) -> tuple[Tensor, Stats]:
        """Summed over tokens, in nats."""
        return -sums_S.sum(), {}


@dataclass(frozen=True)
class DPO:
    """Paper, Eq. 1."""

    beta: float

    def loss(self, sums_S: Tensor, items: Sequence[Pair]) -> tuple[Tensor, Stats]:
        """Summed over pairs, and for each pair: who wins, by how much, and the log-probabilities."""
        chosen_B, rejected_B = sums_S[0::2], sums_S[1::2]
        reference_chosen_B = torch.tensor([p.reference_chosen for p in items], dtype=torch.float64, device=sums_S.device)
        reference_rejected_B = torch.tensor([p.reference_rejected for p in items], dtype=torch.float64, device=sums_S.device)
        loss_B = dpo(chosen_B, rejected_B, reference_chosen_B, reference_rejected_B, beta=self.beta)
        with torch.no_grad():
            chosen_B, rejected_B = chosen_B.detach(), rejected_B.detach()
            chosen_reward_B = self.beta * (chosen_B - reference_chosen_B)
            rejected_reward_B = self.beta * (rejected_B - reference_rejected_B)
            # equal rewards prefer neither: half a win, so that an untrained model scores 0.5 and not 0
            wins_B = (chosen_reward_B > rejected_reward_B).double() + 0.5 * (chosen_reward_B == rejected_reward_B).double()
            stats = {
                "accuracy": wins_B,
                "margin": chosen_reward_B - rejected_reward_B,
                "chosen_reward": chosen_reward_B,
                "rejected_reward": rejected_reward_B,
                "chosen_logp": chosen_B,
                "rejected_logp": rejected_B,
            }
        return loss_B.sum(), {name: float(value.sum()) for name, value in stats.items()}
