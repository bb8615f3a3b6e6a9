"""Log-probabilities of single tokens against log_softmax, and their sums. Their gradients are in test_head and test_streams."""

from __future__ import annotations

import math
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tiny
from zephyr.train import logprobs, parallel
from zephyr.train.batches import Example, flatten
from zephyr.train.logprobs import block_logprobs, sequence_sums, stream_logprobs

D, V = 6, 19


def inputs(n: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden_ND = torch.randn(n, D, dtype=torch.float64, generator=generator).to(dtype)
    weight_VD = torch.randn(V, D, dtype=torch.float64, generator=generator).to(dtype)
    return hidden_ND, weight_VD, torch.randint(0, V, (n,), generator=generator)


def plain(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, softcap: float | None) -> Tensor:
    logits_NV = hidden_ND @ weight_VD.T
    if softcap is not None:
        logits_NV = softcap * torch.tanh(logits_NV / softcap)
    return F.log_softmax(logits_NV, -1)[torch.arange(len(target_N)), target_N]


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("n", [0, 1, 50])
def test_equals_log_softmax(n: int, dtype: torch.dtype, softcap: float | None) -> None:
    hidden_ND, weight_VD, target_N = inputs(n, dtype)
    got_NV = block_logprobs(hidden_ND, weight_VD, softcap)
    assert got_NV.shape == (n, V) and got_NV.dtype == dtype
    tolerance = 1e-13 if dtype == torch.float64 else 3e-6
    torch.testing.assert_close(got_NV[torch.arange(n), target_N], plain(hidden_ND, weight_VD, target_N, softcap), rtol=0, atol=tolerance)


def test_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.tiny_model("gemma2")
    stream = flatten([Example(tuple(range(3, 40)), (True,) * 37)])
    whole_N = stream_logprobs(model, stream)
    for block in (1, 5, 35, 36, 37):
        monkeypatch.setattr(logprobs, "BLOCK", block)
        torch.testing.assert_close(stream_logprobs(model, stream), whole_N, rtol=0, atol=3e-6)


def test_huge_logits_stay_finite() -> None:
    hidden_ND, weight_VD, _ = inputs(9, torch.float32)
    assert torch.isfinite(block_logprobs(hidden_ND * 1e4, weight_VD, None)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_products_only(dtype: torch.dtype) -> None:
    """With hidden states in half precision the products round; log-sum-exp and what follows are in float32."""
    hidden_ND, weight_VD, _ = inputs(50, dtype)
    got_NV = block_logprobs(hidden_ND, weight_VD, None)
    assert got_NV.dtype == torch.float32
    torch.testing.assert_close(got_NV, F.log_softmax((hidden_ND @ weight_VD.T).float(), -1), rtol=0, atol=3e-6)


def test_autocast_does_not_reach_in() -> None:
    hidden_ND, weight_VD, _ = inputs(50, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got_NV = block_logprobs(hidden_ND, weight_VD, None)
    assert torch.equal(got_NV, block_logprobs(hidden_ND, weight_VD, None))


class Copies(TorchDispatchMode):
    """The matrices in bfloat16 that were made of others, as long as somebody holds them."""

    def __init__(self, shapes: frozenset[Any]) -> None:
        super().__init__()
        self.shapes = shapes
        self.made: list[weakref.ref[Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and out.dtype == torch.bfloat16 and args[0].shape in self.shapes:
            self.made.append(weakref.ref(out))
        return out


@pytest.mark.parametrize(("grad", "recompute", "held"), [(False, False, 0), (True, True, 0), (True, False, 3 * 7)])
def test_copies_of_weights_are_kept_for_a_way_back_alone(grad: bool, recompute: bool, held: int) -> None:
    """Autocast would keep one of every weight to the end of a pass: half the model's size for a reference, or where layers are computed again."""
    model = tiny.tiny_model(num_hidden_layers=3)
    if recompute:
        parallel.recompute_activations(model)
    stream = flatten([Example((1, 2, 3), (False, True, True))])
    counting = Copies(frozenset(p.shape for name, p in model.named_parameters() if "proj" in name))
    with torch.set_grad_enabled(grad), counting:
        hidden = logprobs.stream_hidden(model, stream, torch.bfloat16)
    assert len(counting.made) == 3 * 7
    assert sum(copy() is not None for copy in counting.made) == held
    assert torch.equal(hidden, logprobs.stream_hidden(model, stream, torch.bfloat16))


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
