"""Dialogues in ids, on disk: written once, and read from there batch by batch, so that their number costs no memory.

    prepared/{train,test}.{ids,learnt,names}        int32, int32, UTF-8: the values of all dialogues, end to end
    prepared/{train,test}.{ids,learnt,names}.ends   int64: where those of each end
    prepared/refused.jsonl                          the dialogues that were left out, each with its reason
    prepared/prepared.json                          sizes and sha256 of these, and what they were made from; written last

What is learnt is said as spans: pairs of a first position and of the one after the last. The folder is written aside and gets its name
once all of it is on the disk; before it is used, every file is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import shutil
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, overload

from zephyr.durable import aside, sync, write_text
from zephyr.hashes import canonical, sha256_file, sha256_text
from zephyr.records import Row
from zephyr.train.batches import Example, pack

FORMAT = 1
SPLITS = ("train", "test")
_SEAL, _REFUSED = "prepared.json", "refused.jsonl"
_KINDS: dict[str, Literal["i", "B"]] = {"ids": "i", "learnt": "i", "names": "B"}
_BUFFER = 1 << 16

Spans = Sequence[tuple[int, int]]


def spans_of(learnt: Sequence[bool]) -> list[tuple[int, int]]:
    """Where what is learnt begins and ends, in order."""
    edges: list[int] = []
    with contextlib.suppress(ValueError):  # there is no further one
        while True:
            edges.append(learnt.index(len(edges) % 2 == 0, edges[-1] if edges else 0))
    if len(edges) % 2:
        edges.append(len(learnt))
    return list(zip(edges[::2], edges[1::2], strict=True))


# --- writing ---------------------------------------------------------------------------------------------------


class _File:
    """A file that is hashed as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb", buffering=_BUFFER)
        self._hash, self._bytes = hashlib.sha256(), 0

    def write(self, data: bytes | array[int]) -> None:
        view = memoryview(data).cast("B")
        self._file.write(view)
        self._hash.update(view)
        self._bytes += len(view)

    def done(self) -> dict[str, Any]:
        self.close()
        sync(self.path)
        return {"bytes": self._bytes, "sha256": self._hash.hexdigest()}

    def close(self) -> None:
        self._file.close()


class Writer:
    """Writes the folder; it is there under its name once `publish` has returned. Use it as a context."""

    def __init__(self, folder: Path, key: str) -> None:
        """`key` names what the dialogues are made from, and with what."""
        self.folder, self._key = folder, key
        # of this process: one that was killed may have left another at work, which ends by itself, and must not write among ours
        self._until_exit = contextlib.ExitStack()
        self._aside = self._until_exit.enter_context(aside(folder))
        names = [f"{split}.{kind}{ends}" for split in SPLITS for kind in _KINDS for ends in ("", ".ends")]
        self._files = {name: _File(self._aside / name) for name in (*names, _REFUSED)}
        self._lengths = dict.fromkeys(names, 0)
        self._cut = dict.fromkeys(SPLITS, 0)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):  # of a full disk: the error that says so is on its way
                file.close()
        self._until_exit.close()

    def add(self, split: str, name: str, ids: Sequence[int], spans: Spans, *, cut: bool) -> None:
        """A dialogue; `cut` if it lost its last exchanges."""
        self._append(f"{split}.ids", array("i", ids))
        self._append(f"{split}.learnt", array("i", chain.from_iterable(spans)))
        self._append(f"{split}.names", name.encode("utf-8"))
        self._cut[split] += cut

    def refuse(self, reason: str, where: str, row: Row) -> None:
        """A dialogue that is left out."""
        self._files[_REFUSED].write((json.dumps({"reason": reason, "where": where, "row": row}) + "\n").encode("ascii"))

    def _append(self, name: str, values: bytes | array[int]) -> None:
        self._files[name].write(values)
        self._lengths[name] += len(values)
        self._files[f"{name}.ends"].write(array("q", (self._lengths[name],)))

    def publish(self) -> None:
        """Make it durable and give it its name."""
        files = {name: file.done() for name, file in self._files.items()}
        body = {"format": FORMAT, "order": sys.byteorder, "key": self._key, "cut": self._cut, "files": files}
        write_text(self._aside / _SEAL, canonical({"body": body, "sha256": sha256_text(canonical(body))}) + "\n")
        sync(self._aside)
        shutil.rmtree(self.folder, ignore_errors=True)  # one that was made from something else, or is damaged
        self._aside.replace(self.folder)
        sync(self.folder.parent)


# --- reading ---------------------------------------------------------------------------------------------------


def seal_of(folder: Path, key: str) -> Mapping[str, Any] | None:
    """What the folder says of itself; None if it is not there, not whole, damaged, or made from something else."""
    try:
        sealed = json.loads((folder / _SEAL).read_text(encoding="utf-8"))
        body: Mapping[str, Any] = sealed["body"]
        is_ours = sealed["sha256"] == sha256_text(canonical(body)) and body["format"] == FORMAT
        if not is_ours or body["order"] != sys.byteorder or body["key"] != key:
            return None
        whole = all(
            (folder / name).stat().st_size == entry["bytes"] and sha256_file(folder / name) == entry["sha256"]
            for name, entry in body["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return body if whole else None


def refused(folder: Path) -> Iterator[Row]:
    """The dialogues that were left out: `reason`, `where`, `row`."""
    with (folder / _REFUSED).open(encoding="ascii") as file:
        for line in file:
            yield json.loads(line)


class _Ragged:
    """Values of many rows end to end in a file, and where those of each end; both read where they lie."""

    def __init__(self, path: Path, kind: Literal["i", "B"]) -> None:
        self._values: memoryview[int] = _mapped(path).cast(kind)
        self.ends: memoryview[int] = _mapped(path.with_name(f"{path.name}.ends")).cast("q")

    def __len__(self) -> int:
        return len(self.ends)

    def size(self, row: int) -> int:
        return self.ends[row] - (self.ends[row - 1] if row else 0)

    def __getitem__(self, row: int) -> memoryview[int]:
        return self._values[self.ends[row - 1] if row else 0 : self.ends[row]]


def _mapped(path: Path) -> memoryview[int]:
    with path.open("rb") as file:
        if not path.stat().st_size:  # which cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Split:
    """The dialogues of one split."""

    def __init__(self, folder: Path, split: str) -> None:
        self._ids, self._learnt, self._names = (_Ragged(folder / f"{split}.{name}", kind) for name, kind in _KINDS.items())

    def __len__(self) -> int:
        return len(self._ids)

    def size(self, row: int) -> int:
        """Its tokens."""
        return self._ids.size(row)

    def name(self, row: int) -> str:
        """Its `prompt_id`, and what tells it from others of that prompt."""
        return bytes(self._names[row]).decode("utf-8")

    def weight(self, row: int) -> int:
        """How many of its tokens are predicted: those learnt, but for the first, before which nothing stands."""
        edges = self._learnt[row].tolist()
        return sum(edges[1::2]) - sum(max(1, edge) for edge in edges[::2])

    def example(self, row: int) -> Example:
        """Its ids, and which of them are learnt."""
        ids, edges = self._ids[row].tolist(), self._learnt[row].tolist()
        turns = [0, *edges, len(ids)]  # not learnt and learnt, in turn
        runs = ((bool(i % 2),) * (end - start) for i, (start, end) in enumerate(pairwise(turns)))
        return Example(tuple(ids), tuple(chain.from_iterable(runs)))


@dataclass(frozen=True)
class Pack:
    """One dialogue, or several packed into one sequence; what it holds is read when it is asked for."""

    split: Split
    members: tuple[int, ...]
    packed: bool

    @property
    def id(self) -> str:
        """The dialogue's, or a name made of its dialogues'."""
        names = [self.split.name(row) for row in self.members]
        return pack_name(names) if self.packed else names[0]

    @property
    def examples(self) -> tuple[Example, ...]:
        """Its dialogues."""
        return tuple(map(self.split.example, self.members))

    @property
    def weight(self) -> int:
        """Predicted tokens."""
        return sum(map(self.split.weight, self.members))

    @property
    def tokens(self) -> int:
        """How many go through the model."""
        return sum(map(self.split.size, self.members))


def pack_name(ids: Sequence[str]) -> str:
    """Of the dialogues in it, shortened for the reader; the order hangs on it, so a hash of the whole ids keeps apart what begins alike."""
    return "+".join(name[:16] for name in ids) + f" ({sha256_text(canonical(list(ids)))[:12]})"


class Packs(Sequence[Pack]):
    """The dialogues of a split, packed several to a sequence of `capacity` tokens, or one to a sequence where that is None."""

    def __init__(self, split: Split, capacity: int | None) -> None:
        self.split, self._packed = split, capacity is not None
        rows = range(len(split))
        bins: Iterable[Sequence[int]] = ((row,) for row in rows) if capacity is None else pack(array("i", map(split.size, rows)), capacity)
        self._members, lengths = array("i"), array("i")
        for members in bins:
            self._members.extend(members)
            lengths.append(len(members))
        self._ends = array("i", accumulate(lengths))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> Pack: ...
    @overload
    def __getitem__(self, at: slice) -> list[Pack]: ...
    def __getitem__(self, at: int | slice) -> Pack | list[Pack]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        number = range(len(self))[at]  # from the end, too; beyond it an IndexError
        start = self._ends[number - 1] if number else 0
        return Pack(self.split, tuple(self._members[start : self._ends[number]]), self._packed)
