"""In bfloat16: attention, norms, rotations and activations by C are their definitions in float64, to bfloat16's rounding."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_fused import WHOLE, numbers
from test_streams import BFLOAT16_GRADIENT, MODELS, examples_of, gradients, trees_of, worst
from torch import Tensor, nn

import tiny
from zephyr.train import half, kernels
from zephyr.train.attention import _TreeAttention, plain_attention, segment_attention
from zephyr.train.batches import flatten
from zephyr.train.fused import Gated, Norm, Rotation, fuse
from zephyr.train.half import HalfAttention
from zephyr.train.logprobs import block_logprobs, block_of, stream_logprobs

pytestmark = pytest.mark.skipif(kernels.library(torch.bfloat16) is None, reason="no C compiler")

ROUNDING = 2**-8  # half a unit of the 8 bits, relative: what a rounded number may be off
multiplies = pytest.mark.skipif(
    kernels.library(torch.bfloat16) is None or not kernels.has("attention_forward", torch.bfloat16),
    reason="the processor does not multiply bfloat16",
)


def rounded(*shape: int, seed: int = 0) -> Tensor:
    """Numbers that bfloat16 has, in float64."""
    return numbers(*shape, seed=seed).bfloat16().double()


# --- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norm_is_rounded_once_where_products_are_in_half(offset: float) -> None:
    x, w, grad = numbers(1, 700, 90).float(), numbers(90, seed=1).float(), rounded(1, 700, 90, seed=2)
    leaves = [x.clone().requires_grad_(), w.clone().requires_grad_()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = Norm.apply(*leaves, offset, 1e-5)
    found = torch.autograd.grad(out, leaves, grad.bfloat16())
    true = [x.double().requires_grad_(), w.double().requires_grad_()]
    plain = true[0] * torch.rsqrt(true[0].pow(2).mean(-1, keepdim=True) + 1e-5) * (offset + true[1])
    assert out.dtype == torch.bfloat16
    assert ((out - plain).abs() <= ROUNDING * plain.abs()).all()
    for got, want in zip(found, torch.autograd.grad(plain, true, grad), strict=True):
        assert got.dtype == torch.float32  # nothing is rounded on the way back
        assert float((got - want).norm() / want.norm()) < 2e-6


def test_rotation_and_gated_activation_round_what_they_give_and_nothing_else() -> None:
    cosine, sine = numbers(2, 1, 300, 26, seed=2).float().unbind()

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cosine.double()[:, :, None] + torch.cat((-second, first), -1) * sine.double()[:, :, None]

    def gated(gate: Tensor, up: Tensor) -> Tensor:
        return F.silu(gate) * up

    known = (
        (lambda x: Rotation.apply(x, cosine, sine), turned, [rounded(1, 300, 3, 26)]),
        (Gated.apply, gated, [rounded(1, 300, 45) * 16, rounded(1, 300, 45, seed=1)]),
    )
    for ours, plain, inputs in known:
        leaves, true = [x.bfloat16().requires_grad_() for x in inputs], [x.clone().requires_grad_() for x in inputs]
        out, want = ours(*leaves), plain(*true)
        grad = rounded(*out.shape, seed=9)
        pairs = zip((out, *torch.autograd.grad(out, leaves, grad.bfloat16())), (want, *torch.autograd.grad(want, true, grad)), strict=True)
        for got, exact in pairs:
            assert got.dtype == torch.bfloat16
            assert ((got - exact).abs() <= ROUNDING * exact.abs() + 1e-6).all()  # float32's where large numbers cancel


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [1, 19, 3000])
def test_softmax_of_the_vocabulary(size: int, dtype: torch.dtype) -> None:
    hidden_BD, weight_VD = (t.to(dtype) for t in (rounded(40, 8) * 4, rounded(size, 8, seed=1)))
    target_B = torch.randint(0, size, (40,), generator=torch.Generator().manual_seed(2))
    found = block_of(hidden_BD, weight_VD, target_B, None)
    exact_BV = block_logprobs((hidden_BD @ weight_VD.T).double(), torch.eye(size, dtype=torch.float64), None)  # of the logits as they are
    want_B = exact_BV.gather(1, target_B[:, None])[:, 0]
    assert found.logprob_B.dtype == torch.promote_types(dtype, torch.float32)
    rounds = torch.finfo(found.logprob_B.dtype).eps
    torch.testing.assert_close(found.logprob_B.double(), want_B, rtol=rounds, atol=10 * rounds)
    torch.testing.assert_close(found.whole().double(), exact_BV, rtol=rounds, atol=20 * rounds)
    d_BV, wanted_BV = found.d_logits(), exact_BV.exp() - F.one_hot(target_B, size)
    near = {torch.float64: 1e-13, torch.float32: 5e-6, torch.bfloat16: ROUNDING}[dtype]
    assert d_BV.dtype == dtype and ((d_BV - wanted_BV).abs() <= near * wanted_BV.abs() + near * 1e-3).all()


def test_a_lost_logit_is_not_hidden() -> None:
    for bad in (math.nan, math.inf):
        hidden_BD = torch.ones(3, 4)
        hidden_BD[1, 2] = bad
        found = block_of(hidden_BD, torch.ones(7, 4), torch.tensor([1, 2, 3]), None)
        assert found.logprob_B.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("target", [-100, -1, 7, 5000])
def test_a_target_outside_the_vocabulary_is_an_error(target: int, dtype: torch.dtype) -> None:
    """It would be read, and written, outside the logits."""
    targets = torch.tensor([0, target, 1])
    with pytest.raises(IndexError, match="the vocabulary has 7"):
        block_of(torch.ones(3, 4, dtype=dtype), torch.ones(7, 4, dtype=dtype), targets, None)
    with pytest.raises(IndexError, match=r"torch\.int32"):
        block_of(torch.ones(3, 4, dtype=dtype), torch.ones(7, 4, dtype=dtype), torch.tensor([0, 2, 1], dtype=torch.int32), None)


# --- attention ---------------------------------------------------------------------------------------------------

TREES: list[tuple[Any, int, int, int]] = [
    ([[7, 5, 3]], 2, 1, 16),
    ([[33, 17, 40], [0, 5], [19], [1, 1, 1], [64, 64]], 4, 2, 64),
    ([[300, 200, 277], [511, 3, 90]], 10, 5, 64),
    ([[100, 57, 31]], 9, 3, 64),
    ([[40, 20, 20]], 4, 4, 80),
    ([[130, 65, 1]], 6, 1, 128),
    ([[15, 16, 17]], 96, 1, 32),  # more heads to a key head than rows to a block
]


def attended(attention: Any, segments: Any, heads: int, kv_heads: int, size: int, dtype: torch.dtype, scale: float) -> list[Tensor]:
    """Result and gradients of random heads."""
    length = sum(map(sum, segments))
    q, k, v = (rounded(1, n, length, size, seed=i).to(dtype).requires_grad_() for i, n in enumerate((heads, kv_heads, kv_heads)))
    out = attention(q, k, v, segments, scale)
    return [t.detach().double() for t in (out, *torch.autograd.grad(out, (q, k, v), rounded(*out.shape, seed=9).to(dtype)))]


def plain(q: Tensor, k: Tensor, v: Tensor, segments: Any, scale: float) -> Tensor:
    return plain_attention(q, k, v, segments, scale, 0.0, None, None)


def is_as_near_as_the_librarys(segments: Any, heads: int, kv_heads: int, size: int, scale: float) -> tuple[float, float]:
    """How far ours and the library's are from the truth, at the worst of the result and its gradients, relative."""
    shape = (segments, heads, kv_heads, size)
    true = attended(plain, *shape, torch.float64, scale)
    ours, librarys = (attended(a, *shape, torch.bfloat16, scale) for a in (HalfAttention.apply, _TreeAttention.apply))
    worst_off = worst_others = 0.0
    for got, other, want in zip(ours, librarys, true, strict=True):
        off, others_off = (float((x - want).norm() / want.norm()) for x in (got, other))
        assert off < max(0.005, 1.3 * others_off), (*shape, scale)
        worst_off, worst_others = max(worst_off, off), max(worst_others, others_off)
    return worst_off, worst_others


@multiplies
@pytest.mark.parametrize("scale", [0.1, 1.5])  # even weights; nearly one word looked at
@pytest.mark.parametrize(("segments", "heads", "kv_heads", "size"), TREES)
def test_attention_is_as_near_to_its_definition_as_the_librarys(segments: Any, heads: int, kv_heads: int, size: int, scale: float) -> None:
    off, others_off = is_as_near_as_the_librarys(segments, heads, kv_heads, size, scale)
    print(f"attention in bfloat16: result or a gradient is {off:.2g} off at the worst, the library's {others_off:.2g}")


@multiplies
def test_so_it_is_on_shapes_that_nobody_chose() -> None:
    rng, found = random.Random(0), []
    for _ in range(28):
        kv_heads = rng.choice([1, 2, 3, 4])
        heads, size = kv_heads * rng.choice([1, 2, 3, 4, 8]), rng.choice([16, 32, 48, 64, 80, 96, 128])
        segments = [[rng.randint(1, 120) for _ in range(rng.randint(1, 3))] for _ in range(rng.randint(1, 4))]
        for scale in (size**-0.5, 1.5):
            found.append(is_as_near_as_the_librarys(segments, heads, kv_heads, size, scale))
    off, others_off = map(max, zip(*found, strict=True))
    print(f"attention in bfloat16, {len(found)} shapes: result or a gradient is {off:.2g} off at the worst, the library's {others_off:.2g}")


@multiplies
@pytest.mark.parametrize("scale", [-3, 1, 2.0])
def test_a_scale_may_be_whole_or_negative(scale: float) -> None:
    shape = ([[20, 9, 8]], 4, 2, 32)
    for got, want in zip(
        attended(HalfAttention.apply, *shape, torch.bfloat16, scale), attended(plain, *shape, torch.float64, float(scale)), strict=True
    ):
        assert float((got - want).norm() / want.norm()) < 0.02
    q = rounded(1, 2, 5, 16).bfloat16()
    whole, fraction = (segment_attention(nn.Module(), q, q, q, None, scaling=s, segments=[(5,)])[0] for s in (1, 1.0))
    assert torch.equal(whole, fraction)


@multiplies
def test_it_is_taken_for_bfloat16_and_sees_nothing_of_other_trees() -> None:
    q, k, v = (rounded(1, n, 50, 32, seed=i).bfloat16() for i, n in enumerate((4, 2, 2)))
    segments = [(10, 7, 8), (25,)]
    assert half.usable(q, k, v)
    with torch.no_grad():
        out, _ = segment_attention(nn.Module(), q, k, v, None, segments=segments)
        lost = v.clone()
        lost[:, :, 30] = math.nan
        again, _ = segment_attention(nn.Module(), q, k, lost, None, segments=segments)
    assert torch.equal(out, HalfAttention.apply(q, k, v, segments, 32**-0.5))
    assert torch.equal(again[:, :25], out[:, :25]) and not again[:, 30:].isfinite().any()


@multiplies
def test_heads_that_do_not_fill_panels_are_left_to_the_library() -> None:
    q = rounded(1, 2, 9, 24).bfloat16()
    assert not half.usable(q, q, q)
    out, _ = segment_attention(nn.Module(), q, q, q, None, segments=[(4, 3, 2)])
    assert out.isfinite().all()


@multiplies
def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "ALONE", 1)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(attended(HalfAttention.apply, *TREES[2], torch.bfloat16, 0.125))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


@multiplies
def test_no_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str, rows: int, dtype: torch.dtype, *arguments: Any) -> None:
        arguments[7].add_(1)  # a unit that could not be done

    monkeypatch.setattr(kernels, "call", without)
    with pytest.raises(MemoryError, match="attention over 90 positions"):
        attended(HalfAttention.apply, [[40, 50]], 2, 2, 16, torch.bfloat16, 1.0)


# --- whole models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_a_fused_model_is_as_near_to_the_truth_as_autocast(name: str) -> None:
    arch, overrides = MODELS[name]
    trees = [*trees_of(8), *examples_of(1)]
    true, autocast, fused = (tiny.tiny_model(arch, **overrides) for _ in range(3))
    fuse(fused)
    want = gradients(true, trees)
    off = worst(gradients(fused, trees, dtype=torch.bfloat16), want)
    assert 0 < off < max(BFLOAT16_GRADIENT, 1.5 * worst(gradients(autocast, trees, dtype=torch.bfloat16), want))
    want_N, got_N = stream_logprobs(true, flatten(trees)), stream_logprobs(fused, flatten(trees), torch.bfloat16)
    assert float((got_N - want_N).abs().mean()) < 0.01


@multiplies
@pytest.mark.parametrize("name", WHOLE)
def test_a_model_with_heads_of_sixteen_attends_in_half(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arch, overrides = MODELS[name]
    overrides = overrides | {"head_dim": 16, "sliding_window": None}
    trees = [*trees_of(8), *examples_of(1)]
    true, autocast, fused = (tiny.tiny_model(arch, **overrides) for _ in range(3))
    fuse(fused)
    want = gradients(true, trees)
    calls = []
    forward = HalfAttention.forward
    monkeypatch.setattr(HalfAttention, "forward", staticmethod(lambda *args: (calls.append(1), forward(*args))[1]))
    off = worst(gradients(fused, trees, dtype=torch.bfloat16), want)
    assert len(calls) == len(true.model.layers)
    monkeypatch.setattr(half, "usable", lambda *_: False)
    assert 0 < off < max(BFLOAT16_GRADIENT, 1.5 * worst(gradients(autocast, trees, dtype=torch.bfloat16), want))


def test_what_a_hook_makes_of_a_projection_is_taken_as_it_is() -> None:
    model = tiny.tiny_model("llama")
    (mlp,) = [layer.mlp for layer in model.model.layers[:1]]
    mlp.gate_proj.register_forward_hook(lambda *args: args[2].float())
    x = numbers(1, 9, mlp.gate_proj.in_features).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want = mlp(x)
        fuse(model)
        torch.testing.assert_close(mlp(x), want, rtol=0.02, atol=0.001)


def test_where_it_is_computed_says_by_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept parts are of one kind: attention in bfloat16 by C differs from the library's in its last bits."""
    with_, device = kernels.has, torch.device("cpu")
    found = set()
    for there in (True, False):
        monkeypatch.setattr(kernels, "has", lambda name, dtype, there=there: there and with_("norm_forward", dtype))
        found.add(kernels.where_computed(device))
    assert len(found) == 2
    before = kernels._planned(torch.bfloat16)[0]
    monkeypatch.setenv("CC", "cc -mno-avx512bf16")  # what is compiled otherwise is another file
    assert kernels._planned(torch.bfloat16)[0] != before
    monkeypatch.delenv("CC")
    plain = kernels._planned(torch.bfloat16)
    monkeypatch.setenv("CC", "")
    assert kernels._planned(torch.bfloat16) == plain, "an empty name is none"


def test_activations_are_in_half_from_the_norm_on() -> None:
    """Where they were in float32 a linear layer rounds each of them once more, a copy a layer."""
    model = tiny.tiny_model("llama")
    fuse(model)
    seen = set()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not model.get_output_embeddings():
            module.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].dtype))
    gradients(model, trees_of(3), dtype=torch.bfloat16)
    assert seen == {torch.bfloat16}
