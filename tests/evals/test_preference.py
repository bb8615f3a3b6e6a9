"""Accuracy over ordered pairs, counted by hand."""

from __future__ import annotations

import itertools

import pytest

from zephyr.evals.preference import Group, accuracy, margin, ordered_pairs

NUMBERS = itertools.count()


def group(*scores: float, prompt: str | None = None) -> Group:
    return Group(prompt or str(next(NUMBERS)), "p", "", (), tuple((f"answer {i}", s) for i, s in enumerate(scores)))


def test_pairs_are_ordered_and_ties_are_none() -> None:
    assert ordered_pairs([3, 1, 2]) == [(0, 1), (0, 2), (2, 1)]
    assert ordered_pairs([1, 1]) == [] and ordered_pairs([2]) == [] and ordered_pairs([2, 2, 1]) == [(0, 2), (1, 2)]


def test_accuracy_by_hand() -> None:
    groups = [group(5, 3, 1), group(2, 4), group(3, 3)]
    values = [[0.9, 1.5, 0.2], [0.0, 0.0], [7.0, 8.0]]
    # 5>3 lost, 5>1 won, 3>1 won; 4>2 equal: half; the tie counts nowhere
    found = accuracy(groups, values)
    assert found is not None and (found.value, found.items, found.groups) == (2.5 / 4, 4, 2)
    gap = margin(groups, values)
    assert gap is not None and gap.value == pytest.approx(((0.9 - 1.5) + (0.9 - 0.2) + (1.5 - 0.2) + 0.0) / 4)


def test_all_right_and_all_wrong() -> None:
    groups = [group(4, 3, 2, 1) for _ in range(3)]
    right, wrong = accuracy(groups, [[4, 3, 2, 1]] * 3), accuracy(groups, [[1, 2, 3, 4]] * 3)
    assert right is not None and wrong is not None
    assert (right.value, wrong.value, right.items) == (1.0, 0.0, 18)
    # three prompts are no certainty: Wilson's interval of 3 of 3, with t = 4.303 for 2 degrees of freedom, by hand
    assert right.ci95 == pytest.approx([3 / (3 + 4.302653**2), 1.0], rel=1e-5)
    assert wrong.ci95 == pytest.approx([0.0, 1 - 3 / (3 + 4.302653**2)], rel=1e-5)
    gap = margin(groups, [[4, 3, 2, 1]] * 3)
    assert gap is not None and gap.ci95 == pytest.approx([gap.value] * 2)  # a margin is no share


def test_only_ties_is_no_accuracy() -> None:
    assert accuracy([group(1, 1)], [[0.0, 1.0]]) is None and margin([group(1, 1)], [[0.0, 1.0]]) is None


def test_each_group_needs_its_values() -> None:
    with pytest.raises(ValueError, match="zip"):
        accuracy([group(1, 2)], [])


def test_pairs_of_one_prompt_are_one_group() -> None:
    values = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    apart = accuracy([group(2, 1) for _ in values], values)
    together = accuracy([group(2, 1, prompt="a"), group(2, 1, prompt="a"), group(2, 1, prompt="b")], values)
    assert apart is not None and together is not None
    assert apart.value == together.value == 2 / 3
    assert (apart.groups, together.groups, together.items) == (3, 2, 3)
