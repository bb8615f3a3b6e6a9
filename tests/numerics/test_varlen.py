"""Attention by a kernel for sequences of unlike length: the cuts of a stream, and that no kernel is believed untried."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from zephyr.models import load
from zephyr.models.reading import say_once
from zephyr.train import attention, fused, varlen

TREES = ([(4, 3, 5)], [(6,), (2, 1, 1, 4), (1, 3)], [(3, 2, 0, 2), (7,)], [(5, 0, 3)])


def kernel(aligned: str = "end", seen: int = 0) -> Any:
    """What flash kernels compute, sequence by sequence: a query sees the keys up to its own place, the last of both being aligned."""

    def compute(
        q: Tensor, k: Tensor, v: Tensor, ends_q: Tensor, ends_k: Tensor, most_q: int, most_k: int, scale: float, window: Any
    ) -> Tensor:
        assert ends_q.dtype == ends_k.dtype == torch.int32 and ends_q[-1] == len(q) and ends_k[-1] == len(k) == len(v)
        assert most_q == ends_q.diff().max() and most_k == ends_k.diff().max()
        outs = []
        for i in range(len(ends_q) - 1):
            rows, columns = (slice(int(e[i]), int(e[i + 1])) for e in (ends_q, ends_k))
            a, b, c = q[rows].transpose(0, 1), k[columns].transpose(0, 1), v[columns].transpose(0, 1)
            b, c = (t.repeat_interleave(len(a) // len(t), 0) for t in (b, c))
            n, m = a.shape[1], b.shape[1]
            place = torch.arange(n)[:, None] + (m - n if aligned == "end" else 0) - torch.arange(m)[None]
            mask = (place >= 0) & (place < (window + seen if window else m))
            outs.append((torch.softmax((a @ b.transpose(1, 2) * scale).masked_fill(~mask, -torch.inf), -1) @ c).transpose(0, 1))
        return torch.cat(outs)

    return compute


@pytest.mark.parametrize("segments", TREES)
@pytest.mark.parametrize("window", [None, 3])
def test_a_stream_is_cut_so_that_a_kernel_computes_the_definition(segments: Any, window: int | None) -> None:
    torch.manual_seed(0)
    length = sum(map(sum, segments))
    leaves = [torch.randn(1, heads, length, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    q, k, v = leaves
    grad = torch.randn(1, length, 4, 8, dtype=torch.float64)
    found = [
        varlen.attention(q, k, v, segments, 0.3, window, kernel()),
        attention.plain_attention(q, k, v, segments, 0.3, 0.0, window, None),
    ]
    grads = [torch.autograd.grad(out, leaves, grad) for out in found]
    torch.testing.assert_close(found[0], found[1])
    for ours, plain in zip(*grads, strict=True):
        torch.testing.assert_close(ours, plain)


def test_only_a_kernel_that_computes_it_is_used() -> None:
    def tried(one: Any, dtype: torch.dtype = torch.float32) -> bool:
        return varlen.computes_attention(one, 4, 2, 16, dtype, "cpu")

    def unlike(*_: Any) -> Tensor:
        raise RuntimeError("this GPU is too old")

    assert tried(kernel()) and tried(kernel(), torch.bfloat16)
    assert not tried(kernel(aligned="begin")), "a branch would not see its whole trunk"
    assert not tried(kernel(seen=1)), "a window that is one longer"
    assert not tried(unlike)
    assert not tried(lambda q, *_: torch.zeros_like(q, requires_grad=True) * q), "nothing at all"


def test_what_is_not_on_a_gpu_in_half_precision_goes_the_old_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "_tried", lambda *_: pytest.fail("there is nothing to try"))
    q = torch.zeros(1, 4, 3, 8)
    assert varlen.kernel_for(q, q, q) is None and varlen.kernel_for(q.bfloat16(), q.bfloat16(), q.bfloat16()) is None


@pytest.mark.parametrize("arch", ["mistral", "gemma2", "qwen3"])
def test_a_model_takes_it_where_it_is(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows go along; what the kernels do not know (Gemma 2's soft cap) stays with the definition."""
    from zephyr.train.batches import branching, flatten
    from zephyr.train.logprobs import stream_logprobs

    calls: list[Any] = []

    def counted(*args: Any) -> Tensor:
        calls.append(args[-1])
        return kernel()(*args)

    model = tiny.tiny_model(arch)
    stream = flatten([branching(range(9, 20), range(30, 39), range(40, 43)), branching(range(50, 52), range(60, 63), range(70, 75))])
    plain = stream_logprobs(model, stream)
    monkeypatch.setenv("ZEPHYR_KERNELS", "0")
    # as it is on a GPU, where the CPU's own ways are none
    monkeypatch.setattr(attention.varlen, "kernel_for", lambda *_: counted)
    monkeypatch.setattr(
        attention,
        "_TreeAttention",
        types.SimpleNamespace(apply=lambda q, k, v, s, scale: varlen.attention(q, k, v, s, scale, None, counted)),
    )
    torch.testing.assert_close(stream_logprobs(model, stream), plain, rtol=1e-5, atol=1e-5)
    assert (7 in calls) == (arch == "mistral") and bool(calls) == (arch != "gemma2")


def test_a_trial_in_the_midst_of_a_layer_is_none_of_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the first layer of the first pass tries the kernels, and does not when it is computed again."""
    from zephyr.train import parallel
    from zephyr.train.batches import branching, flatten
    from zephyr.train.logprobs import stream_hidden

    model = tiny.tiny_model("mistral")
    stream = flatten([branching(range(9, 40), range(40, 49), range(50, 53))])  # longer than the window
    stream_hidden(model, stream).square().sum().backward()
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    monkeypatch.setattr(varlen, "_there", lambda: [kernel(aligned="begin"), kernel()])
    monkeypatch.setattr(varlen, "kernel_for", lambda q, k, v: varlen._tried(q.shape[1], k.shape[1], q.shape[3], q.dtype, "cpu"))
    varlen._tried.cache_clear()
    parallel.recompute_activations(model)
    stream_hidden(model, stream).square().sum().backward()
    assert varlen._tried.cache_info().currsize == 1 and varlen._tried.cache_info().hits > 0
    varlen._tried.cache_clear()
    for found, wanted in zip([p.grad for p in model.parameters() if p.grad is not None], plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The file of liger-kernel that is imported, with nothing in it."""
    patch = types.ModuleType("liger_kernel.transformers.monkey_patch")
    for name in ("liger_kernel", "liger_kernel.transformers"):
        module = types.ModuleType(name)
        module.__path__ = []
        module.__spec__ = importlib_spec(name)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, patch.__name__, patch)
    return patch


def test_liger_is_asked_for_layers_and_not_for_the_loss_and_only_on_a_gpu(liger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    liger._apply_liger_kernel_to_instance = lambda model, **more: asked.append(more)
    model = tiny.tiny_model()
    fused.fuse(model)
    assert not asked
    monkeypatch.setattr(fused, "_on_gpu", lambda _: True)
    fused.fuse(model)
    assert asked == [{"cross_entropy": False, "fused_linear_cross_entropy": False}]
    monkeypatch.setenv("ZEPHYR_KERNELS", "0")
    fused.fuse(model)
    assert len(asked) == 1


def bound(module: Any, forward: Any) -> None:
    """As liger-kernel exchanges a layer: attributes and a method of this one module."""
    module.offset, module.forward = 0.0, types.MethodType(forward, module)


def fails_halfway(model: Any, **_: Any) -> None:
    sys.modules[type(model).__module__].__dict__.update({fused.ROTARY: None, "ROTARY_OF_ITS_OWN": None})
    bound(model.model.layers[0].mlp, lambda self, x: None)
    raise AttributeError("no such layer\nand more")


def cannot_be_compiled(model: Any, **_: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        raise RuntimeError("no C compiler")

    bound(model.model.norm, forward)


def computes_something_else(model: Any, **_: Any) -> None:
    bound(model.model.layers[1].mlp, lambda self, x: 2 * type(self).forward(self, x))


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError("no kernel for the way back")


def goes_no_way_back(model: Any, **_: Any) -> None:
    bound(model.model.layers[0].mlp, lambda self, x: NoWayBack.apply(type(self).forward(self, x)))


def goes_another_way_back(model: Any, **_: Any) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y: Tensor = type(self).forward(self, x)
        return y.detach() + 0 * y  # the values of one, the slope of none

    bound(model.model.layers[0].mlp, forward)


@pytest.mark.parametrize(
    ("apply", "why"),
    [
        (None, "ImportError: cannot import name '_apply_liger_kernel_to_instance'"),
        (fails_halfway, "AttributeError: no such layer"),
        (cannot_be_compiled, "RuntimeError: no C compiler"),
        (computes_something_else, "ValueError: its logits are "),
        (goes_no_way_back, "RuntimeError: no kernel for the way back"),
        (goes_another_way_back, "ValueError: its gradients are "),
    ],
)
def test_a_model_is_loaded_and_is_what_it_was_where_liger_fails(
    apply: Any, why: str, liger: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = load.ModelRef(str(tiny_folder), "")
    plain: Any = load.load_model(ref)
    file = vars(sys.modules[type(plain).__module__])
    before = dict(file)
    if apply:
        liger._apply_liger_kernel_to_instance = apply
    monkeypatch.setattr(fused, "_on_gpu", lambda _: True)
    say_once.cache_clear()
    models: list[Any] = [load.load_model(ref) for _ in range(2)]
    assert file == before
    for model in models:
        assert [{*vars(m)} for m in model.modules()] == [{*vars(m)} for m in plain.modules()]
        assert all(map(torch.equal, fused._trial(model), fused._trial(plain)))
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "liger" in line)
    assert said.startswith(f"  liger-kernel failed ({why}") and said.endswith(") and is left out; torch computes the same numbers")


def importlib_spec(name: str) -> Any:
    from importlib.machinery import ModuleSpec

    return ModuleSpec(name, None, is_package=True)
