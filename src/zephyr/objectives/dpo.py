"""Direct preference optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def dpo(
    policy_chosen_B: Tensor, policy_rejected_B: Tensor, reference_chosen_B: Tensor, reference_rejected_B: Tensor, *, beta: float
) -> Tensor:
    """-log sigmoid(beta * [(log pi(y_w|x) - log ref(y_w|x)) - (log pi(y_l|x) - log ref(y_l|x))]), a value a pair.

    Source: the Zephyr paper, Eq. 1 (Rafailov et al. 2023, Eq. 7).

    Args:
        policy_chosen_B: log-probability of the preferred answer under the policy, summed over its tokens, in nats.
        policy_rejected_B: the same of the other answer.
        reference_chosen_B: the same under the frozen reference.
        reference_rejected_B: the same under the frozen reference.
        beta: how strongly the policy is held to the reference; the paper's is 0.1.

    Returns:
        loss_B, in nats; ln 2 where policy and reference agree.
    """
    from torch.nn.functional import logsigmoid

    margin_B = (policy_chosen_B - reference_chosen_B) - (policy_rejected_B - reference_rejected_B)
    return -logsigmoid(beta * margin_B)
