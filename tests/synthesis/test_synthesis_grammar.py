"""Lists and single texts out of replies."""

from __future__ import annotations

import pytest

from zephyr.errors import DataError
from zephyr.synthesis import grammar


def test_lists_that_are_read() -> None:
    assert grammar.read_lines("1. Owls\n2. Hawks\n", 3, cut=False) == ["Owls", "Hawks"]
    assert grammar.read_lines("Here are some:\n\n 1) Owls: at night\n\n2) Hawks", 2, cut=False) == ["Owls: at night", "Hawks"]
    assert grammar.read_lines("1. Owls\n2. Hawks\n3. Fal", 3, cut=True) == ["Owls", "Hawks"]
    assert grammar.read_lines("<think>birds\n1. no</think>\n1. Owls", 1, cut=False) == ["Owls"]
    assert grammar.read_json('{"items": [" Owls ", "Hawks"]}', 2) == ["Owls", "Hawks"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("Owls\nHawks", "does not begin with its number"),
        ("1. Owls\n3. Hawks", "has the number 3"),
        ("1. Owls\nand more of them\n2. Hawks", "does not begin with its number"),
        ("1. Owls\n2. owls ", "twice"),
        ("1. Owls\n2. Hawks\n3. Kites\n4. Eagles", "4 items, 3"),
        ("1. Owls\n2. --", "says nothing"),
        (f"1. {'very ' * 150}long", "characters"),
        ("<think>1. Owls", "thinking ends"),
        (f"{'9' * 5000}. Owls", "has the number"),
    ],
)
def test_lists_that_are_not(text: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        grammar.read_lines(text, 3, cut=False)


def test_a_list_cut_off_in_its_first_line_is_none() -> None:
    with pytest.raises(DataError, match="no whole line"):
        grammar.read_lines("1. Ow", 3, cut=True)


@pytest.mark.parametrize("text", ["[]", '{"items": "Owls"}', '{"items": [1]}', '{"items": [], "more": 1}', "Owls", '{"items": []}'])
def test_json_that_is_no_list(text: str) -> None:
    with pytest.raises(DataError):
        grammar.read_json(text, 3)


def test_an_instruction_is_the_whole_reply() -> None:
    assert grammar.read_instruction(" Write a poem about\nowls. \n", cut=False) == "Write a poem about\nowls."
    assert grammar.read_instruction("Surely you know owls? Explain their flight.", cut=False)
    for text, cut in (("Sure! Here is it:\nWrite.", False), ("Here's a new instruction:\n\nWrite.", False), ("Write", True), ("?!", False)):
        with pytest.raises(DataError):
            grammar.read_instruction(text, cut=cut)


def test_half_a_character_in_json_is_no_item() -> None:
    """JSON can escape what no text can hold; the reply stands in the journal, so it must not break what reads it."""
    with pytest.raises(DataError, match="lone surrogate"):
        grammar.read_json('{"items": ["one", "two \\ud83d"]}', 2)
