"""Named tensors in files, each process writing its own rows; read back by any number of processes, each its own rows.

A file holds pieces: the tensor `NAME@START` is the part of NAME whose first row is number START. Of what is not split,
the leader writes the one piece there is. The files are safetensors, which cannot execute code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zephyr import world
from zephyr.models.load import os_errors

FILE_BYTES = 256 << 20  # a file is copied in memory while it is written, so files are kept small
BLOCK_BYTES = 1 << 30  # what room is asked for at a time
ALIGNED = 512


def of_this_process(tensors: Mapping[str, Tensor], *, own: bool = False) -> dict[str, Tensor]:
    """The pieces of `tensors` that this process writes, by their names. `own`: all of them are its own."""
    return dict(_mine(tensors, own))


def write(folder: Path, kind: str, parts: Mapping[str, Tensor]) -> list[Path]:
    """Write the pieces of this process as KIND-RANK-NUMBER.safetensors; returns the files."""
    from safetensors.torch import save_file

    rank, files = world.current().rank, []
    for number, group in enumerate(_groups(parts.items())):
        files.append(folder / f"{kind}-{rank:05d}-{number:05d}.safetensors")
        with os_errors():
            save_file({key: t.detach().cpu().contiguous() for key, t in group.items()}, files[-1])
    return files


def room_for(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Memory of the host for a copy of each, by its name; a GPU can write by itself into what is meant for its own.

    It is cut out of large blocks: torch rounds what a GPU can write up to a power of two, a matrix of 260 MB to 512.
    """
    room: dict[str, Tensor] = {}
    for pinned in (False, True):
        wanted = {name: tensor for name, tensor in tensors.items() if tensor.is_cuda == pinned}
        block, at, left = torch.empty(0, dtype=torch.uint8), 0, sum(map(_aligned, wanted.values()))
        for name, tensor in wanted.items():
            size = _aligned(tensor)
            if at + size > len(block):
                block, at = torch.empty(max(size, min(left, BLOCK_BYTES)), dtype=torch.uint8, pin_memory=pinned), 0
            room[name] = block[at : at + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            at, left = at + size, left - size
    return room


def _aligned(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNED) * ALIGNED


def _mine(tensors: Mapping[str, Tensor], own: bool) -> Iterator[tuple[str, Tensor]]:
    own = own or world.current().leads
    for name, tensor in tensors.items():
        start, part = rows_of(tensor)
        if part.numel() and (start is not None or own):
            yield f"{name}@{start or 0}", part


def rows_of(tensor: Tensor) -> tuple[int | None, Tensor]:
    """The rows of a tensor that this process holds, and the number of the first; None for one that is not split."""
    from torch.distributed.tensor import DTensor, Shard

    if not isinstance(tensor, DTensor):
        return None, tensor
    assert tensor.placements == (Shard(0),), "FSDP2 splits along rows"
    a_process = -(-tensor.shape[0] // tensor.device_mesh.size())
    local: Tensor = tensor.to_local()
    return min(tensor.shape[0], a_process * tensor.device_mesh.get_local_rank()), local


def _groups(pieces: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    group: dict[str, Tensor] = {}
    size = 0
    for key, tensor in pieces:
        if group and size + tensor.nbytes > FILE_BYTES:
            yield group
            group, size = {}, 0
        group[key] = tensor
        size += tensor.nbytes
    if group:
        yield group


class Pieces:
    """The pieces in some files, by the name of what they are parts of."""

    def __init__(self, files: Iterable[Path]) -> None:
        from safetensors import safe_open

        self._at: dict[str, list[tuple[int, str, Any]]] = {}
        for path in files:
            file: Any = safe_open(path, framework="pt")
            for key in file.keys():  # noqa: SIM118 - not a dictionary
                name, _, start = key.rpartition("@")
                self._at.setdefault(name, []).append((int(start), key, file))
        for pieces in self._at.values():
            pieces.sort(key=lambda piece: piece[0])

    def names(self) -> list[str]:
        """What there is."""
        return list(self._at)

    def fill(self, name: str, target: Tensor) -> None:
        """Copy what `name` is into `target`, or the rows of it that this process holds."""
        start, part = rows_of(target)
        with torch.no_grad():
            if target.ndim == 0:
                part.copy_(self.whole(name))
            elif part.numel():
                part.copy_(self._rows(name, start or 0, (start or 0) + part.shape[0]))

    def whole(self, name: str) -> Tensor:
        """All rows of it."""
        tensors = [file.get_tensor(key) for _, key, file in self._at[name]]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        parts = []
        for first, key, file in self._at[name]:
            piece = file.get_slice(key)
            length = piece.get_shape()[0]
            low, high = max(start, first) - first, min(stop, first + length) - first
            if low < high:
                parts.append(piece[low:high])
        return parts[0] if len(parts) == 1 else torch.cat(parts)
