"""Norms, rotary positions and gated activations in one pass over memory each, in the place of a model's own.

A model keeps its modules and their weights; where a module's structure is that of a known computation, and a trial with
random numbers shows that it computes just that, forward and backward, its forward is exchanged for one that does it by
kernels.c. Everything else stays as transformers has it. Linear layers are called as modules, so adapters on them work.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zephyr.models.reading import first_line, say_once
from zephyr.train import kernels

STRETCH = 256  # as in kernels.c
ALIKE = 1e-5  # relative: what is the same computation differs by rounding, 1e-6 at most; what is another one by far more
ALIKE_IN_ALL = 0.01  # relative, of logits: rounding grows from layer to layer
ROTARY = "apply_rotary_pos_emb"  # what transformers calls it in every architecture


def fuse(model: nn.Module) -> list[str]:
    """Exchange what is recognised in a model on the CPU; returns the names of the modules whose forward is another now."""
    _liger(model)
    if not any(kernels.usable(p.detach()) for p in model.parameters()):
        return []
    done = []
    for name, module in model.named_modules():
        forward = _norm(module) or _gated(module) or _attention(module)
        if forward is not None:
            module.forward = forward
            done.append(name)
    return done


def _liger(model: nn.Module) -> None:
    """On a GPU that is left to liger-kernel, where it is installed and knows the architecture: the loss stays ours, layers become its.

    Where it fails, or a trial in float32 gives other logits or another gradient, all is as it was before, and torch computes it.
    """
    if not _on_gpu(model) or os.environ.get("ZEPHYR_KERNELS") == "0" or importlib.util.find_spec("liger_kernel") is None:
        return
    # what it exchanges: names in the file of the architecture, and attributes of modules; a call that fails has done a part of it
    owners = [vars(owner) for owner in (sys.modules[type(model).__module__], *model.modules())]
    before = [dict(names) for names in owners]
    try:
        from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance  # type: ignore[import-not-found]  # optional

        own = _trial(model)
        _apply_liger_kernel_to_instance(model, cross_entropy=False, fused_linear_cross_entropy=False)
        for what, value, other in zip(("logits", "gradients"), own, _trial(model), strict=True):
            off = float((other - value).norm() / value.norm())
            if not off < ALIKE_IN_ALL:
                raise ValueError(f"its {what} are {off:.3g} off")
    except Exception as error:  # of any kind: the name is private, and kernels are compiled when they are first called
        for names, old in zip(owners, before, strict=True):
            for name in names.keys() - old.keys():
                del names[name]
            names.update(old)
        say_once(f"  liger-kernel failed ({first_line(error)}) and is left out; torch computes the same numbers")


def _on_gpu(model: nn.Module) -> bool:
    return any(p.is_cuda for p in model.parameters())


@torch.enable_grad()
def _trial(model: Any) -> tuple[Tensor, Tensor]:
    """Logits of a few tokens, and the gradient of their squares for what goes into the first layer."""
    weight_VD = model.get_input_embeddings().weight.detach()
    embeds_1TD = weight_VD[torch.arange(8, device=weight_VD.device) % len(weight_VD)][None].requires_grad_()
    logits_1TV = model(inputs_embeds=embeds_1TD, segments=[(8,)], use_cache=False).logits
    (gradient_1TD,) = torch.autograd.grad(logits_1TV.square().sum(), embeds_1TD)
    return logits_1TV.detach(), gradient_1TD


# --- what is recognised -------------------------------------------------------------------------------------------


def _norm(module: nn.Module) -> Callable[..., Any] | None:
    """A root mean square norm: one weight, one epsilon, nothing else; the weight as it is or as an offset from one (Gemma)."""
    eps = next((getattr(module, n) for n in ("variance_epsilon", "eps") if isinstance(getattr(module, n, None), float)), None)
    weight = getattr(module, "weight", None)
    only = [*module.state_dict()] == ["weight"] and not [*module.children()]
    if eps is None or not only or not isinstance(weight, nn.Parameter) or weight.ndim != 1 or not kernels.usable(weight):
        return None
    twin: Any = copy.deepcopy(module)
    with torch.no_grad():
        twin.weight.copy_(_numbers(*weight.shape, seed=2))  # its own are all alike, mostly: any function of them would pass
    w = twin.weight.requires_grad_()
    x = _numbers(2, 3, len(w)).to(w.dtype).requires_grad_()
    for offset in (0.0, 1.0):
        if _same(twin, lambda x, offset=offset: _apply(Norm, x, w, offset, eps), (x,), (x, w)):
            return functools.partial(_norm_forward, module, module.forward, offset, eps)
    return None


def _norm_forward(module: nn.Module, own: Callable[[Tensor], Tensor], offset: float, eps: float, x: Tensor) -> Tensor:
    weight: Any = module.weight
    return _apply(Norm, x, weight, offset, eps) if kernels.usable(x, weight) else own(x)


def _in_half(x: Tensor) -> bool:
    """Are products computed in bfloat16, from what is in float32 or in it already?"""
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return half and x.dtype in (torch.float32, torch.bfloat16) and kernels.usable_in_half(x.new_empty(0, dtype=torch.bfloat16))


def _gated(module: nn.Module) -> Callable[..., Any] | None:
    """down(silu(gate(x)) * up(x))."""
    names = {name for name, _ in module.named_children()}
    linear = [getattr(module, n, None) for n in ("gate_proj", "up_proj", "down_proj")]
    if names - {"act_fn"} != {"gate_proj", "up_proj", "down_proj"} or not all(type(layer) is nn.Linear for layer in linear):
        return None
    weight: Any = module.gate_proj.weight  # type: ignore[union-attr]
    x = _numbers(1, 5, weight.shape[1]).to(weight.dtype).requires_grad_()
    forward = functools.partial(_gated_forward, module, module.forward)
    if not kernels.usable(x, weight) or not _same(module, forward, (x,), (x,)):
        return None
    return forward


def _gated_forward(module: Any, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not (_in_half(x) if torch.is_autocast_enabled("cpu") else kernels.usable(x)):
        return own(x)
    gate, up = module.gate_proj(x), module.up_proj(x)  # what an adapter or a hook makes of them may be of another format
    known = kernels.usable(gate, up) or kernels.usable_in_half(gate, up)
    found: Tensor = module.down_proj(_apply(Gated, gate, up) if known else F.silu(gate) * up)
    return found


def _attention(module: nn.Module) -> Callable[..., Any] | None:
    """A layer whose forward calls its file's rotary function: the same code, which finds ours under that name."""
    forward: Any = getattr(module.forward, "__func__", None)
    code: Any = getattr(forward, "__code__", None)
    own = getattr(forward, "__globals__", {}).get(ROTARY)
    if own is None or ROTARY not in code.co_names or not _rotates(own, int(getattr(module, "head_dim", 0))):
        return None
    names = {**forward.__globals__, ROTARY: functools.partial(_rotary, own)}
    changed = types.FunctionType(code, names, forward.__name__, forward.__defaults__, forward.__closure__)
    changed.__kwdefaults__ = forward.__kwdefaults__
    return types.MethodType(changed, module)


@functools.cache
def _rotates(own: Callable[..., Any], size: int) -> bool:
    """Does a rotary function turn the halves of a whole head?"""
    if size <= 0 or size % 2:
        return False
    q, k = (_numbers(1, 5, heads, size).transpose(1, 2).requires_grad_() for heads in (4, 2))
    cosine, sine = _numbers(2, 1, 5, size, seed=2).unbind()
    return _same(own, functools.partial(_rotary, None), (q, k, cosine, sine), (q, k))


def _rotary(own: Callable[..., Any] | None, q: Tensor, k: Tensor, cosine: Tensor, sine: Tensor, *args: Any, **more: Any) -> Any:
    plain = not args and not more and len(q) == 1 and cosine.shape == (1, q.shape[2], q.shape[3])
    known = kernels.usable(q, k, cosine, sine) or (kernels.usable_in_half(q, k) and kernels.usable(cosine, sine))
    if own is not None and not (plain and known):
        return own(q, k, cosine, sine, *args, **more)
    cosine, sine = cosine.contiguous(), sine.contiguous()
    return tuple(_apply(Rotation, x.transpose(1, 2), cosine, sine).transpose(1, 2) for x in (q, k))


def _apply(function: type[torch.autograd.Function], *inputs: Tensor | float) -> Tensor:
    found: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]  # torch's has no types
    return found


def _numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random ones, from a generator of their own: a trial must not move the run's."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _same(own: Callable[..., Any], ours: Callable[..., Any], inputs: Sequence[Tensor], leaves: Sequence[Tensor]) -> bool:
    """Do two functions give the same, and the same gradients, to rounding?"""
    found = []
    with torch.enable_grad():
        for function in (own, ours):
            try:
                made = function(*inputs)
                outputs = made if isinstance(made, tuple) else (made,)
                grads = [_numbers(*o.shape, seed=1).to(o.dtype) for o in outputs]
                found.append([*outputs, *torch.autograd.grad(outputs, leaves, grads)])
            except (TypeError, RuntimeError, AttributeError, IndexError):  # it wants something else: it is something else
                return False
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(*found, strict=True)]
    return all(a.shape == b.shape and a.norm() > 0 and float((a - b).norm()) <= ALIKE * float(a.norm()) for a, b in pairs)


# --- what takes its place -----------------------------------------------------------------------------------------


class Norm(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * (offset + w) over the last dimension; of the rows 1 / sqrt(...) is kept, and x itself.

    Where products are computed in bfloat16 the result is rounded to it at once: that is what a linear layer would do with it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, offset: float, eps: float) -> Tensor:
        """Of x (..., D) and w (D,)."""
        x, size = x.contiguous(), len(w)
        rows = x.numel() // size
        y, r = torch.empty_like(x, dtype=torch.bfloat16 if _in_half(x) else x.dtype), x.new_empty(rows)
        kernels.call("norm_forward", rows, y.dtype, size, x, w, offset, eps, y, r)
        ctx.save_for_backward(x, w, r)
        ctx.offset = offset
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Of x and w."""
        x, w, r = ctx.saved_tensors
        stretches = -(-len(r) // STRETCH)
        dx, dw = torch.empty_like(x), w.new_zeros(stretches, len(w))
        kernels.call("norm_backward", stretches, grad.dtype, len(r), len(w), x, w, ctx.offset, r, grad.contiguous(), dx, dw)
        return dx, dw.sum(0), None, None


class Rotation(torch.autograd.Function):
    """Rotary positions: x (1, T, heads, d), cos and sin (1, T, d); x cos + (-second half, first half) sin."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        """(1, T, heads, d)."""
        ctx.save_for_backward(cosine, sine)
        return _rotated(x, cosine, sine, back=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Of x: turned back."""
        return _rotated(grad, *ctx.saved_tensors, back=True), None, None


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor, *, back: bool) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    kernels.call("rotate", x.shape[1], x.dtype, x.shape[2], x.shape[3], x, cosine, sine, int(back), y)
    return y


class Gated(torch.autograd.Function):
    """silu(gate) * up; neither factor is kept but what they were made of."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Both (..., D)."""
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        y = torch.empty_like(gate)
        kernels.call("gated_forward", gate.numel() // gate.shape[-1], gate.dtype, gate.shape[-1], gate, up, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Of gate and up."""
        gate, up = ctx.saved_tensors
        dgate, dup = torch.empty_like(gate), torch.empty_like(up)
        rows, size = gate.numel() // gate.shape[-1], gate.shape[-1]
        kernels.call("gated_backward", rows, gate.dtype, size, gate, up, grad.contiguous(), dgate, dup)
        return dgate, dup
