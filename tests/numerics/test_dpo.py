"""The paper's Eq. 1 against plain arithmetic in float64, and against TRL on the same batch."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from zephyr.objectives import dpo
from zephyr.train.batches import branching, flatten
from zephyr.train.logprobs import sequence_sums, stream_logprobs


def by_hand(policy_chosen: float, policy_rejected: float, reference_chosen: float, reference_rejected: float, beta: float) -> float:
    """-log sigmoid of the margin, one number at a time."""
    margin = beta * math.fsum([policy_chosen, -reference_chosen, -policy_rejected, reference_rejected])
    return max(-margin, 0.0) + math.log1p(math.exp(-abs(margin)))


def batch(seed: int, size: int = 64) -> list[Tensor]:
    """Log-probabilities as real answers have them: -10 to -2000 nats, the policy within some tens of the reference."""
    rng = random.Random(seed)
    reference = [[-rng.uniform(10, 2000) for _ in range(size)] for _ in range(2)]
    policy = [[r + rng.gauss(0, 30) for r in side] for side in reference]
    return [torch.tensor(values, dtype=torch.float64) for values in (*policy, *reference)]


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5, 5.0])
def test_equals_plain_arithmetic(beta: float) -> None:
    values = batch(0)
    want = [by_hand(*row, beta) for row in zip(*(v.tolist() for v in values), strict=True)]
    assert dpo(values[0], values[1], values[2], values[3], beta=beta).tolist() == pytest.approx(want, rel=1e-12, abs=1e-12 * beta)


def test_loss_is_ln_2_where_policy_and_reference_agree() -> None:
    _, _, chosen_B, rejected_B = batch(1)
    assert dpo(chosen_B, rejected_B, chosen_B, rejected_B, beta=0.1).tolist() == [math.log(2)] * 64


def test_gradient_is_beta_times_how_wrong_it_is() -> None:
    """Rafailov et al. 2023, section 4: the weight is sigmoid of the negative margin."""
    values = batch(2)
    policy = [v.clone().requires_grad_() for v in values[:2]]
    dpo(policy[0], policy[1], values[2], values[3], beta=0.1).sum().backward()
    margin_B = (values[0] - values[2]) - (values[1] - values[3])
    weight_B = 0.1 * torch.sigmoid(-0.1 * margin_B)
    for value, want_B in zip(policy, (-weight_B, weight_B), strict=True):
        assert value.grad is not None
        torch.testing.assert_close(value.grad, want_B, rtol=1e-12, atol=1e-15)


def test_far_margins_stay_finite() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    policy_B = torch.tensor([1e5, -1e5], dtype=torch.float64, requires_grad=True)
    loss_B = dpo(policy_B, zero, zero, zero, beta=0.1)
    assert loss_B.tolist() == [0.0, 1e4]
    loss_B.sum().backward()
    assert policy_B.grad is not None and policy_B.grad.tolist() == [0.0, -0.1]


def test_sides_are_not_mixed_up() -> None:
    one, zero = torch.ones(1), torch.zeros(1)
    loss = [float(dpo(*([zero] * i + [one] + [zero] * (3 - i)), beta=1.0)) for i in range(4)]
    better, worse = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert loss == pytest.approx([better, worse, worse, better], rel=1e-6)


# --- with models ------------------------------------------------------------------------------------------------


def pairs(seed: int, size: int = 5) -> list[tuple[list[int], list[int], list[int]]]:
    """(prompt, chosen, rejected) ids of unequal lengths."""
    rng = random.Random(seed)
    return [tuple([rng.randrange(5, 480) for _ in range(rng.randint(2, high))] for high in (20, 30, 30)) for _ in range(size)]


def sums(model: Any, rows: list[tuple[list[int], list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Summed log-probabilities of chosen and rejected, by our packed streams with shared prompts."""
    stream = flatten([branching(*row) for row in rows])
    sums_S = sequence_sums(stream_logprobs(model, stream), stream)
    return sums_S[0::2], sums_S[1::2]


def test_first_step_is_ln_2() -> None:
    model, rows = tiny.tiny_model("llama"), pairs(0)
    with torch.no_grad():
        reference = sums(model, rows)
    assert dpo(*sums(model, rows), *reference, beta=0.1).tolist() == [math.log(2)] * len(rows)
    # a reference computed pair by pair, as another micro-batch would: equal up to float32 rounding of the model
    apart = [sums(model, [row]) for row in rows]
    reference = tuple(torch.cat([side[i] for side in apart]).detach() for i in range(2))
    assert dpo(*sums(model, rows), *reference, beta=0.1).tolist() == pytest.approx([math.log(2)] * len(rows), abs=1e-6)
