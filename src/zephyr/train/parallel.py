"""One model over several processes: FSDP2, each process holding its share of weights and optimizer, and of gradients between steps."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zephyr import world
from zephyr.train.batches import Stream
from zephyr.train.head import head_loss
from zephyr.train.heap import Heap
from zephyr.train.logprobs import stream_hidden
from zephyr.train.quantized import as_numbers
from zephyr.train.tasks import ItemT, Task


class Learner(nn.Module):
    """A model whose forward is the loss: one call in which every weight is used, which is what sharding is built around."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.sharded = False
        self.offloaded = False
        self.device = str(model.device)  # where it computes, wherever its weights are
        self.heap = Heap()

    def forward(self, stream: Stream, items: Sequence[ItemT], task: Task[ItemT], scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Loss and sequence sums of a stream, as `head_loss` gives them."""
        return head_loss(self.model, stream_hidden(self.model, stream, dtype), stream, items, task, scale)

    def communicate(self, last: bool) -> None:
        """Gradients are summed over the processes in the last backward pass of a batch; until then each keeps its own, whole.

        That takes memory for all gradients where a batch is more than one pass, and saves an exchange in every pass but one. Who
        offloads has no such memory: there they are summed, and leave the device, in every pass.
        """
        if self.sharded:
            self.set_requires_gradient_sync(last or self.offloaded)  # type: ignore[operator]

    def put_away(self) -> None:
        """After passes without a way back: what was gathered of the outermost weights is let go, so that each holds its share again."""
        if self.sharded:
            self.reshard()  # type: ignore[operator]


def learner(model: Any, *, offload: bool = False) -> Learner:
    """The model ready to learn, sharded where several processes take part; with `offload`, weights and gradients in the host's memory."""
    made = Learner(model)
    if world.current().size > 1 or offload:
        _shard(made, offload=offload)
    return made


@contextlib.contextmanager
def group_of_one(wanted: bool) -> Iterator[None]:
    """What shards a model speaks to a group of processes, also where that is a process by itself."""
    import torch.distributed as dist

    if not wanted or dist.is_initialized():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]  # no re-export
    try:
        yield
    finally:
        dist.destroy_process_group()


def _shard(made: Learner, *, offload: bool) -> None:
    from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

    there = torch.cuda.is_available()  # else the host's memory is where the weights are anyway
    policy = CPUOffloadPolicy(pin_memory=there) if offload else OffloadPolicy()
    for layer in decoder_layers(made.model):
        fully_shard(layer, offload_policy=policy)
    fully_shard(made, offload_policy=policy)
    if offload and there:
        made.device = "cuda"
    for module in made.modules():
        if isinstance(module, FSDPModule):
            # the loss is divided by the weight of the whole batch already: gradients are added up, not averaged
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other sum
    made.sharded, made.offloaded = True, offload


def decoder_layers(model: Any) -> list[nn.Module]:
    """The blocks a model is a stack of: of its lists of modules, the one with the most weights."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    return max(lists, key=lambda stack: sum(p.numel() for layer in stack for p in layer.parameters()), default=[])


def recompute_activations(model: Any) -> None:
    """Keep of each layer only what goes into it, and compute the rest again on the way back: less memory, one more pass forward.

    The numbers stay the same to the bit. Layers are told to, not the model: transformers' own switch does nothing in evaluation
    mode, in which preferences are learnt.
    """
    from torch.utils.checkpoint import checkpoint

    for layer in decoder_layers(model):
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def clip_gradients(model: nn.Module, limit: float) -> float:
    """Scale the gradient to a norm of at most `limit`; returns the norm it had, which is the same in all processes."""
    from torch.distributed.tensor import DTensor

    norm: Any = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every weight and saved buffer in one piece and in numbers, by name, in the leader; the others get none. All must ask together."""
    from torch.distributed.tensor import DTensor

    saved = model.state_dict().keys()
    tensors: dict[str, Any] = {**dict(model.named_parameters()), **{name: b for name, b in model.named_buffers() if name in saved}}
    whole = {}
    for name, tensor in tensors.items():
        here: Any = as_numbers(tensor)
        one = here.full_tensor().cpu() if isinstance(tensor, DTensor) else here
        if world.current().leads:
            whole[name] = one
    return whole
