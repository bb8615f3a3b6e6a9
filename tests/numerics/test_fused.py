"""Norms, rotations, gated activations and attention by kernels.c give what transformers gives, and only where they are that."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_streams import MODELS, exact, examples_of, gradients, grown_apart, padded_logprobs, plain_gradients, trees_of, worst
from torch import Tensor, nn

import tiny
from zephyr.train import attention, fused, kernels
from zephyr.train.batches import flatten
from zephyr.train.fused import Gated, Norm, Rotation, fuse
from zephyr.train.logprobs import stream_logprobs
from zephyr.train.parallel import recompute_activations

pytestmark = pytest.mark.skipif(kernels.library(torch.float32) is None, reason="no C compiler")

# layers whose norms, rotary positions and gated activations are of the known kinds, all of them
WHOLE = ["llama, tied", "mistral, untied", "qwen2, tied", "qwen3, untied"]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def both(ours: Any, plain: Any, *inputs: Tensor) -> None:
    """Values and gradients, in float64 and float32, of many rows and of one."""
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 2e-6)):
        for rows in (700, 1):
            found = []
            for function in (ours, plain):
                leaves = [t.narrow(1, 0, rows) if t.ndim > 1 else t for t in inputs]
                leaves = [t.to(dtype).contiguous().requires_grad_() for t in leaves]
                out = function(*leaves)
                wanted = leaves if function is plain or len(leaves) < 3 else leaves[:1]
                found.append([out.detach(), *torch.autograd.grad(out, wanted, numbers(*out.shape, seed=9).to(dtype))])
            for one, other in zip(*found, strict=False):
                assert one.dtype == dtype
                assert float((one - other).norm() / other.norm()) < tolerance


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norm(offset: float) -> None:
    def plain(x: Tensor, w: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * (offset + w)

    both(lambda x, w: Norm.apply(x, w, offset, 1e-5), plain, numbers(1, 700, 90), numbers(90, seed=1))


def test_rotation_also_where_both_halves_have_angles_of_their_own() -> None:
    def plain(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cosine[:, :, None] + torch.cat((-second, first), -1) * sine[:, :, None]

    both(Rotation.apply, plain, numbers(1, 700, 3, 26), numbers(1, 700, 26, seed=1), numbers(1, 700, 26, seed=2))


def test_gated_activation() -> None:
    both(Gated.apply, lambda gate, up: F.silu(gate) * up, numbers(1, 700, 45) * 20, numbers(1, 700, 45, seed=1))


def test_what_is_not_a_number_stays_so() -> None:
    """A run that has lost its way is to stop at it."""
    for bad in (float("nan"), float("inf")):
        x = numbers(1, 4, 32).float()
        x[0, 1, 3] = bad
        for out in (Norm.apply(x, torch.ones(32), 0.0, 1e-6), Gated.apply(x, x), Rotation.apply(x[:, :, None], x, x)):
            assert not out[0, 1].isfinite().all() and out[0, [0, 2, 3]].isfinite().all()
        heads = x[:, None].expand(1, 2, 4, 32)
        out, _ = attention.segment_attention(nn.Module(), heads, heads, heads, None, segments=[(4,)])
        assert not out[0, 1].isfinite().all()


def test_far_apart_scores_come_out_as_zeros_and_ones() -> None:
    heads = numbers(1, 2, 40, 16) * 100
    for dtype in (torch.float64, torch.float32):
        q = heads.to(dtype)
        ours, plain = (
            a(q, q, q, [(40,)], 1.0) for a in (attention.BlockAttention.apply, lambda *a: attention.plain_attention(*a, 0.0, None, None))
        )
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_fused_models_equal_padded_transformers(name: str) -> None:
    arch, overrides = MODELS[name]
    trees = [*trees_of(8), *examples_of(1)]
    for make, attention_, tolerance in ((exact, "exact_eager", 1e-12), (tiny.tiny_model, "eager", 1e-5)):
        ours, plain = make(arch, **overrides), make(arch, attention=attention_, **overrides)  # type: ignore[operator]
        assert fuse(ours)
        got_N, want_N = stream_logprobs(ours, flatten(trees)), padded_logprobs(plain, grown_apart(trees))
        torch.testing.assert_close(got_N, want_N, rtol=0, atol=tolerance)
        assert worst(gradients(ours, trees), plain_gradients(plain, grown_apart(trees))) < tolerance


@pytest.mark.parametrize("name", WHOLE)
def test_whole_layers_are_recognised(name: str) -> None:
    arch, overrides = MODELS[name]
    model = tiny.tiny_model(arch, **overrides)
    done = set(fuse(model))
    for n, module in model.named_modules():
        kind = type(module).__name__
        assert (n in done) == kind.endswith(("RMSNorm", "MLP", "Attention")), n


def test_what_computes_something_else_is_left_alone() -> None:
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = nn.Parameter(torch.ones(16)), 1e-6

    class Layer(Other):
        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x, (16,), self.weight, None, self.eps)

    class Squared(Other):  # of its first weights, all one, it could not be told
        def forward(self, x: Tensor) -> Tensor:
            return F.rms_norm(x, (16,), self.weight**2, self.eps)

    class Detached(Other):  # the same value with other gradients
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rsqrt(x.detach().pow(2).mean(-1, keepdim=True) + self.eps) * self.weight

    class Known(Other):
        def forward(self, x: Tensor) -> Tensor:
            return F.rms_norm(x, (16,), self.weight, self.eps)

    assert [fuse(kind()) for kind in (Layer, Squared, Detached, Known)] == [[], [], [], [""]]
    gelu = tiny.tiny_model("llama", hidden_act="gelu")
    assert not any(name.endswith("mlp") for name in fuse(gelu))


def test_rotations_of_other_shapes_are_left_alone() -> None:
    def interleaved(q: Tensor, k: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        def turned(x: Tensor) -> Tensor:
            even, odd = x[..., 0::2], x[..., 1::2]
            return x * cosine + torch.stack((-odd, even), -1).flatten(-2) * sine

        return turned(q), turned(k)

    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    assert fused._rotates(apply_rotary_pos_emb, 16)
    assert not fused._rotates(interleaved, 16)


def test_copies_are_of_themselves() -> None:
    """A copy's exchanged forwards use the copy's weights."""
    model = tiny.tiny_model("llama")
    fuse(model)
    twin = copy.deepcopy(model)
    stream = flatten(examples_of(3))
    before_N = stream_logprobs(model, stream)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(0.1)
    assert torch.equal(stream_logprobs(model, stream), before_N)
    fresh = tiny.tiny_model("llama")
    fresh.load_state_dict(twin.state_dict())
    torch.testing.assert_close(stream_logprobs(twin, stream), stream_logprobs(fresh, stream), rtol=0, atol=1e-5)


def test_recomputing_activations_changes_nothing() -> None:
    model = tiny.tiny_model("llama")
    fuse(model)
    want = gradients(model, trees_of(7))
    recompute_activations(model)
    assert worst(gradients(model, trees_of(7)), want) == 0


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "ALONE", 1)
    x, w, grad = numbers(1, 1000, 64).float().requires_grad_(), numbers(64, seed=1).float().requires_grad_(), numbers(1, 1000, 64, seed=2)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        out = Norm.apply(x, w, 0.0, 1e-6)
        found.append([out, *torch.autograd.grad(out, (x, w), grad.float())])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


@pytest.mark.parametrize("why", ["no compiler", "switched off", "a cache that cannot be written"])
def test_without_kernels_torch_computes(why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if why == "no compiler":
        monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    elif why == "switched off":
        monkeypatch.setenv("ZEPHYR_KERNELS", "0")
    else:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("ZEPHYR_CACHE", str(tmp_path / "file"))
    want = gradients(tiny.tiny_model("llama"), trees_of(5))
    kernels.library.cache_clear()
    try:
        model = tiny.tiny_model("llama")
        assert fuse(model) == []
        assert worst(gradients(model, trees_of(5)), want) < 1e-5
    finally:
        kernels.library.cache_clear()


def test_a_broken_file_in_the_cache_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEPHYR_CACHE", str(tmp_path))
    path, _ = kernels._planned(torch.float32)
    path.parent.mkdir()
    path.write_bytes(b"\x7fELF, and no more")
    kernels.library.cache_clear()
    try:
        assert kernels.library(torch.float32) is not None
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        assert path.stat().st_size > 1000
    finally:
        kernels.library.cache_clear()


def test_a_norm_in_another_format_is_computed_by_its_own() -> None:
    """Under autocast queries come to Qwen 3's norm in bfloat16."""
    model = tiny.tiny_model("qwen3")
    norm = next(m for m in model.modules() if type(m).__name__.endswith("RMSNorm"))
    x = numbers(2, 3, norm.weight.shape[0]).bfloat16()
    want = norm(x)
    fuse(model)
    assert isinstance(norm.forward, partial)
    assert torch.equal(norm(x), want)


def test_rows_are_dealt_out_by_whoever_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the compiler has no OpenMP that torch's threads are of, a pool of our own gives the same bits."""
    monkeypatch.setattr(kernels, "ALONE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x, w = numbers(1, 1000, 64).float(), numbers(64, seed=1).float()
    want = Norm.apply(x, w, 0.0, 1e-6)
    monkeypatch.setattr(kernels, "_threads_of_torch", lambda: None)
    for cached in (kernels.library, kernels._parallel, kernels._function):
        cached.cache_clear()
    try:
        assert not kernels._parallel(torch.float32)
        assert torch.equal(Norm.apply(x, w, 0.0, 1e-6), want)
    finally:
        for cached in (kernels.library, kernels._parallel, kernels._function):
            cached.cache_clear()


@pytest.mark.skipif(kernels._threads_of_torch() is None, reason="torch has no GNU OpenMP here")
def test_there_is_one_set_of_threads() -> None:
    """With a second one, threads of the one would wait for processors on which those of the other still spin."""
    assert kernels._parallel(torch.float32)
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line}
    assert str(kernels._threads_of_torch()) in loaded and sum("torch" in path for path in loaded) == 1
