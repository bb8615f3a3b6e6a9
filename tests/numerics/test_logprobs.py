"""Log-probabilities of single tokens against log_softmax, and their sums."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from zephyr.train import logprobs
from zephyr.train.batches import Example, flatten
from zephyr.train.logprobs import BLOCK, sequence_sums, token_logprobs

D, V = 6, 19


def inputs(n: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden_ND = torch.randn(n, D, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    weight_VD = torch.randn(V, D, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
    return hidden_ND, weight_VD, torch.randint(0, V, (n,), generator=generator)


def plain(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None) -> Tensor:
    logits_NV = hidden_ND @ weight_VD.T
    if softcap is not None:
        logits_NV = softcap * torch.tanh(logits_NV / softcap)
    return F.log_softmax(logits_NV, -1)[torch.arange(len(target_N)), target_N]


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_equals_log_softmax(n: int, dtype: torch.dtype, softcap: float | None) -> None:
    ours, theirs = inputs(n, dtype), inputs(n, dtype)
    got_N, want_N = token_logprobs(*ours, softcap), plain(*theirs, softcap)
    assert got_N.shape == (n,) and got_N.dtype == dtype
    tolerance = 1e-13 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(got_N, want_N, rtol=0, atol=tolerance)
    weight_N = torch.linspace(-1, 2, n, dtype=dtype)
    (got_N * weight_N).sum().backward()
    (want_N * weight_N).sum().backward()
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert mine.grad is not None and other.grad is not None
        scale = max(1.0, float(other.grad.abs().max())) if n else 1.0
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_gradcheck(n: int, softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "BLOCK", 2)
    hidden_ND, weight_VD, target_N = inputs(n, torch.float64)
    assert torch.autograd.gradcheck(
        lambda h, w: token_logprobs(h, w, target_N, softcap), (hidden_ND, weight_VD), eps=1e-6, atol=1e-8, rtol=1e-7
    )


def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden_ND, weight_VD, target_N = inputs(37, torch.float64)
    whole_N = token_logprobs(hidden_ND, weight_VD, target_N)
    for block in (1, 5, 36, 37, 38):
        monkeypatch.setattr(logprobs, "BLOCK", block)
        torch.testing.assert_close(token_logprobs(hidden_ND, weight_VD, target_N), whole_N, rtol=0, atol=1e-14)


def test_huge_logits_stay_finite() -> None:
    hidden_ND, weight_VD, target_N = inputs(9, torch.float32)
    logprob_N = token_logprobs(hidden_ND * 1e4, weight_VD, target_N)
    logprob_N.sum().backward()
    assert torch.isfinite(logprob_N).all() and hidden_ND.grad is not None and torch.isfinite(hidden_ND.grad).all()


def test_frozen_output_matrix_gets_no_gradient() -> None:
    hidden_ND, weight_VD, target_N = inputs(3, torch.float32)
    frozen_VD = weight_VD.detach()
    token_logprobs(hidden_ND, frozen_VD, target_N).sum().backward()
    assert hidden_ND.grad is not None and frozen_VD.grad is None


def test_no_second_derivative_rather_than_a_wrong_one() -> None:
    hidden_ND, weight_VD, target_N = inputs(3, torch.float64)
    (grad_ND,) = torch.autograd.grad(token_logprobs(hidden_ND, weight_VD, target_N).square().sum(), hidden_ND, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad_ND.sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_products_only(dtype: torch.dtype) -> None:
    """With hidden states in half precision the products round; log-sum-exp and what follows are in float32."""
    hidden_ND, weight_VD, target_N = inputs(50, dtype)
    got_N = token_logprobs(hidden_ND, weight_VD.float(), target_N)
    logits_NV = (hidden_ND @ weight_VD.T).float()
    assert got_N.dtype == torch.float32
    torch.testing.assert_close(got_N, F.log_softmax(logits_NV, -1)[torch.arange(50), target_N], rtol=0, atol=3e-6)


def test_autocast_does_not_reach_in() -> None:
    ours, theirs = inputs(50, torch.float32), inputs(50, torch.float32)
    want_N = token_logprobs(*theirs)
    want_N.sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got_N = token_logprobs(*ours)
        got_N.sum().backward()
    assert torch.equal(got_N, want_N)
    for mine, other in zip(ours[:2], theirs[:2], strict=True):
        assert mine.grad is not None and other.grad is not None and torch.equal(mine.grad, other.grad)


# --- sums ------------------------------------------------------------------------------------------------------


def test_sums_are_in_float64_and_by_sequence() -> None:
    examples = [Example(tuple(range(n)), (True,) * n) for n in (1, 4001, 3, 2)]
    stream = flatten(examples)
    logprob_N = (-torch.rand(len(stream.target_N), generator=torch.Generator().manual_seed(0)) * 20).requires_grad_()
    sums_S = sequence_sums(logprob_N, stream)
    assert sums_S.dtype == torch.float64
    values = logprob_N.tolist()
    want = [0.0, math.fsum(values[:4000]), math.fsum(values[4000:4002]), values[4002]]
    assert sums_S.tolist() == pytest.approx(want, rel=1e-14)
    assert abs(float(logprob_N[:4000].detach().double().sum()) - want[1]) < 1e-9
    weight_S = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    (sums_S * weight_S).sum().backward()
    assert logprob_N.grad is not None and logprob_N.grad.tolist() == [2.0] * 4000 + [3.0] * 2 + [4.0]
