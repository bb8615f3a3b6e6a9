"""What a training needs to go on where it was: what is trained, the optimizer's moments, the generators of random numbers; each by name."""

from __future__ import annotations

import torch
from torch import Tensor

from zephyr import world
from zephyr.train.pieces import Pieces


def weights_of(model: torch.nn.Module) -> dict[str, Tensor]:
    """What is trained, by name; tied weights once."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def moments_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors, as `KIND/NAME OF THE WEIGHT`."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {f"{kind}/{names[p]}": value for p, state in optimizer.state.items() for kind, value in state.items()}


def own_generators() -> dict[str, Tensor]:
    """Their states, as `generator/DEVICE-RANK`; of each process its own."""
    rank = world.current().rank
    names = {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})
    return {f"generator/{device}-{rank}": state for device, state in names.items()}


def restore_generators(state: Pieces) -> None:
    """A process that was not there when the checkpoint was written keeps the generators it began with."""
    rank, names = world.current().rank, state.names()
    if f"generator/cpu-{rank}" in names:
        torch.set_rng_state(state.whole(f"generator/cpu-{rank}"))
    if torch.cuda.is_available() and f"generator/cuda-{rank}" in names:
        torch.cuda.set_rng_state(state.whole(f"generator/cuda-{rank}"))


def restore_moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer, moments: Pieces) -> None:
    """Put moments, named as by `moments_of`, into an optimizer that has not made a step; where it keeps them (`home`, if it says so)."""
    kinds: dict[str, list[str]] = {}
    for key in moments.names():
        kind, _, name = key.partition("/")
        kinds.setdefault(name, []).append(kind)
    for name, parameter in model.named_parameters():
        for kind in kinds.get(name, ()):
            home = getattr(optimizer, "home", None)
            value = torch.zeros((), device=parameter.device) if kind == "step" else torch.zeros_like(parameter, device=home)
            moments.fill(f"{kind}/{name}", value)
            optimizer.state[parameter][kind] = value
