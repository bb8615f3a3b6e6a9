"""What came of a synthesis, in figures: topics, turns, lengths, how varied the words are, how close the prompts are to the seeds."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from zephyr.records import Message, Prompt, seeded_unit
from zephyr.synthesis.near import nearest, runs_of
from zephyr.synthesis.talk import Talk

LOOKED_AT = 1000  # dialogues and seeds, drawn by hash: more would change figures that depend on how much is looked at


def summary(kept: Sequence[Talk], begun: Counter[str], seeds: Sequence[Prompt], seed: int) -> dict[str, Any]:
    """The figures of a manifest.

    Args:
        kept: the dialogues that came to something.
        begun: how many were begun, by sector.
        seeds: prompts that the first turns are compared with.
        seed: of the sample that is looked at for words and likeness.
    """
    sample = sorted(kept, key=lambda talk: seeded_unit(seed, "looked at", talk.place.name))[:LOOKED_AT]
    by_sector = Counter(talk.place.sector for talk in kept)
    topics = {sector: Counter(t.place.topic for t in kept if t.place.sector == sector) for sector in by_sector}
    texts = {
        "prompts": [talk.opening.compared for talk in sample],
        "answers": [m["content"] for talk in sample for m in talk.messages if m["role"] == "assistant"],
    }
    return {
        "sectors": {sector: {"begun": n, "kept": by_sector[sector]} for sector, n in begun.items()},
        "topics": {
            sector: {"number": len(c), "least": min(c.values()), "most": max(c.values()), "each": dict(c)} for sector, c in topics.items()
        },
        "turns": dict(sorted(Counter(str(len(talk.messages) // 2) for talk in kept).items(), key=lambda item: int(item[0]))),
        "ended": dict(sorted(Counter(talk.ended for talk in kept).items())),
        "cut_turns": sum(talk.cut for talk in kept),
        "characters": {
            "prompt": _spread(len(talk.messages[0]["content"]) for talk in kept),
            "user": _spread(len(m["content"]) for m in _later(kept, "user")),
            "assistant": _spread(len(m["content"]) for m in _later(kept, "assistant")),
        },
        "distinct": {name: {"texts": len(found), **{str(n): distinct(found, n) for n in (1, 2, 3)}} for name, found in texts.items()},
        "nearest_seed": _to_seeds(sample, seeds, seed),
    }


def _later(kept: Sequence[Talk], role: str) -> Iterable[Message]:
    """The turns of a role, without the first of the user."""
    return (m for talk in kept for m in talk.messages[1:] if m["role"] == role)


def distinct(texts: Iterable[str], n: int) -> float | None:
    """Distinct runs of n words among all such runs, from 0 to 1 (Li et al. 2016, distinct-n); None where there is none."""
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = re.findall(r"\w+", text.casefold())
        runs = list(zip(*(words[i:] for i in range(n)), strict=False))
        total += len(runs)
        seen.update(runs)
    return round(len(seen) / total, 4) if total else None


def _spread(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, median, 95th percentile and the greatest, None of nothing."""
    found = sorted(values)
    if not found:
        return None
    median, p95 = (found[math.ceil(share * len(found)) - 1] for share in (0.5, 0.95))
    return {"mean": round(sum(found) / len(found), 4), "median": median, "p95": p95, "most": found[-1]}


def _to_seeds(sample: Sequence[Talk], seeds: Sequence[Prompt], seed: int) -> dict[str, float] | None:
    """How similar first turns are to the seed that is most similar, 0 to 1."""
    looked_at = sorted(seeds, key=lambda p: seeded_unit(seed, "looked at", p.prompt_id))[:LOOKED_AT]
    others = [runs_of(prompt.prompt) for prompt in looked_at]
    return _spread(round(nearest(runs_of(talk.opening.compared), others), 4) for talk in sample) if others else None
