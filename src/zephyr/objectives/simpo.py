"""Simple preference optimization, which has no reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def simpo(policy_chosen_B: Tensor, policy_rejected_B: Tensor, *, beta: float, gamma: float) -> Tensor:
    """-log sigmoid(beta (chosen - rejected) - gamma), a value a pair.

    Source: Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", Eq. 6.

    Args:
        policy_chosen_B: log-probability of the preferred answer under the policy, the mean over its tokens, in nats.
        policy_rejected_B: the same of the other answer.
        beta: scale of the reward; the paper's are 2 to 2.5.
        gamma: the margin that the preferred answer should win by; the paper's are 0.3 to 1.6.

    Returns:
        loss_B, in nats.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(beta * (policy_chosen_B - policy_rejected_B) - gamma)
