"""Identity preference optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def ipo(
    policy_chosen_B: Tensor, policy_rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor, *, beta: float
) -> Tensor:
    """(h - 1 / (2 beta))^2 with h the difference of the log-ratios: drawn to a margin, not past it. A value a pair.

    Source: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences", Eq. 17, its tau
    called beta.

    Args:
        policy_chosen_B: log-probability of the preferred answer under the policy, the mean over its tokens, in nats.
        policy_rejected_B: the same of the other answer.
        reference_chosen_B: the same under the frozen reference.
        reference_rejected_B: the same under the frozen reference.
        beta: half of one over the margin that is sought.

    Returns:
        loss_B, in squared nats; 1 / (4 beta^2) where policy and reference agree.
    """
    margin_B = (policy_chosen_B - reference_chosen_B) - (policy_rejected_B - reference_rejected_B)
    return (margin_B - 1 / (2 * beta)) ** 2
