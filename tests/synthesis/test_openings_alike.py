"""Likeness of first turns: the index finds just what comparing all with all finds."""

from __future__ import annotations

import random

import pytest

from scripted import WORDS, sentence
from zephyr.synthesis.near import Near, runs_of, similarity


@pytest.mark.parametrize("threshold", [0.3, 0.7, 1.0])
def test_the_index_finds_what_comparing_all_finds(threshold: float) -> None:
    rng = random.Random(3)
    texts: list[str] = []
    for _ in range(150):
        old = rng.choice(texts).split() if texts and rng.random() < 0.6 else sentence(rng, "What is", rng.randint(0, 12)).split()
        for _ in range(rng.randint(0, 3)):
            old[rng.randrange(len(old))] = rng.choice(WORDS)
        texts.append(" ".join(old))
    near, hits = Near(threshold), 0
    for i, text in enumerate(texts):
        plain = [(similarity(runs_of(text), runs_of(other)), -j) for j, other in enumerate(texts[:i])]
        best = max(plain, default=(0.0, 0))
        want = (str(-best[1]), best[0]) if best[0] >= threshold and i else None
        assert near.closest(text) == want
        hits += want is not None
        near.add(str(i), text)
    assert 10 < hits < 150


def test_what_is_compared_and_with_what() -> None:
    near = Near(0.9)
    near.add("a", "What, exactly, is an OWL?", "birds")
    assert near.closest("what exactly is an owl", "birds") == ("a", 1.0)
    assert near.closest("what exactly is an owl", "fish") is None
    near.add("short", "Ow!", "birds")
    assert near.closest("ow", "birds") == ("short", 1.0) and near.closest("", "birds") is None
