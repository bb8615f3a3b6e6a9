"""What all rows are made of: turns, the ids of prompts, and draws that depend on nothing but them."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from typing import Any, Literal, TypedDict

Role = Literal["system", "user", "assistant"]


ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn, in the shape every chat library uses."""

    role: Role
    content: str


Row = dict[str, Any]


def prompt_id_of(prompt: str) -> str:
    """The public data sets' id of a prompt: sha256 of its UTF-8 text, in hex (64 characters)."""
    return hashlib.sha256(prompt.encode("utf-8")).hexdigest()


def content_id(prompt: str) -> str:
    """The id of a prompt's words: the same for texts that differ in spaces, capitals or compatible characters alone."""
    return prompt_id_of(" ".join(unicodedata.normalize("NFKC", prompt).casefold().split()))


def seeded_unit(seed: int, *names: object) -> float:
    """A number in [0, 1) that depends on the seed and the names alone, never on the order of rows."""
    key = "\x1f".join([str(seed), *map(str, names)])
    unit = int.from_bytes(hashlib.sha256(key.encode("utf-8")).digest()[:7], "big") / 2**56
    return min(unit, math.nextafter(1.0, 0.0))  # 56 bits are more than a float has, and the last few round up to 1
