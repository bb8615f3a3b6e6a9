"""Conservative direct preference optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def cdpo(
    policy_chosen_B: Tensor,
    policy_rejected_B: Tensor,
    reference_chosen_B: Tensor,
    reference_rejected_B: Tensor,
    *,
    beta: float,
    label_smoothing: float,
) -> Tensor:
    """DPO for labels of which a share is expected to be the wrong way round. A value a pair.

    -(1 - e) log sigmoid(beta m) - e log sigmoid(-beta m), m the difference of the log-ratios, e the share.
    Source: Mitchell 2023, "A note on DPO with noisy preferences & relationship to IPO", Eq. 3.

    Args:
        policy_chosen_B: log-probability of the preferred answer under the policy, summed over its tokens, in nats.
        policy_rejected_B: the same of the other answer.
        reference_chosen_B: the same under the frozen reference.
        reference_rejected_B: the same under the frozen reference.
        beta: how strongly the policy is held to the reference.
        label_smoothing: the share, 0 to 0.5; at 0 this is DPO.

    Returns:
        loss_B, in nats; ln 2 where policy and reference agree.
    """
    from torch.nn.functional import logsigmoid

    scaled_B = beta * ((policy_chosen_B - reference_chosen_B) - (policy_rejected_B - reference_rejected_B))
    return -(1 - label_smoothing) * logsigmoid(scaled_B) - label_smoothing * logsigmoid(-scaled_B)
