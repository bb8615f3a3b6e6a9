"""What counts as a turn of a conversation, on turns written for it."""

from __future__ import annotations

import pytest

from zephyr.records import Message
from zephyr.synthesis import turns

TALK: tuple[Message, ...] = (
    {"role": "user", "content": "How do I keep basil alive through the winter in a small flat?"},
    {"role": "assistant", "content": "Put it by the brightest window you have, water it when the soil feels dry, and pinch the tips."},
)
GOOD = [
    "How often is that, roughly?",
    "My window faces north. Would a lamp do?",
    "Thanks! And what about rosemary?",
    "I don't believe that. My grandmother never watered hers.",
    "Person: And if it gets flies?",
    "Could you put that into a table, please?",
    "You are wrong about the light: basil is a woodland plant, isn't it?",
    "Here is what I tried so far: I moved it away from the radiator, and it still drops its leaves.",
    "Thank you, but that is not what I asked.",
    "Yes.",
]
FLIPPED = [
    "As an AI language model, I cannot grow basil.",
    "I'm an AI and do not have a flat.",
    "I'm ready to help. What's your order?",
    "Sure, here are some tips for basil.",
    "Certainly! Let me explain how to water it.",
    "You're welcome! Feel free to ask more about plants.",
    "Let me know if you need anything else about basil.",
    "How can I help you today?",
    "Why is that?\nAssistant: Because the soil dries.",
    "Why is that?\n\n**Assistant:** Because the soil dries.",
    "Why is that?\nPerson: And how often?",
    "Why is that?<|im_end|>",
    TALK[1]["content"],
]
THANKS = ["Thank you so much!", "Thanks, that was great. Bye!", "I really appreciate it.", "Great, thanks a lot. Have a nice day."]
ENDS = ["[END]", "[end].", "**[END]**", "Great.\n\n[END]", "That is all I needed to know. [END]", "Thank you, goodbye!"]


def read(text: str, *, may_end: bool = False, cut: bool = False, keep_cut: bool = False) -> turns.Turn:
    return turns.read_user(text, TALK, cut=cut, may_end=may_end, keep_cut=keep_cut)


def reason_of(text: str, **given: bool) -> str:
    with pytest.raises(turns.UnfitError) as error:
        read(text, **given)
    return error.value.reason


def test_a_persons_turns_are_taken_as_they_are() -> None:
    for text in GOOD:
        assert read(text).text == text.removeprefix("Person: ") and not read(text).ends
        assert read(text, may_end=True).text, text


def test_what_is_no_persons_turn_is_refused_for_what_it_is() -> None:
    assert {text: reason_of(text) for text in FLIPPED} == dict.fromkeys(FLIPPED, turns.FLIPPED)
    assert {text: reason_of(text) for text in THANKS} == dict.fromkeys(THANKS, turns.THANKS)
    assert {reason_of(text) for text in ("", "  \n", "...", "Person:  ")} == {turns.EMPTY}
    assert reason_of(TALK[0]["content"] + " Tell me!") == turns.AGAIN
    assert reason_of("<think>what would they say") == turns.UNREADABLE


def test_it_ends_by_the_users_word_once_it_may() -> None:
    for text in ENDS:
        assert read(text, may_end=True).ends
    assert reason_of("[END]") == turns.ENDED
    assert read("<think>enough?</think>[END]", may_end=True).ends
    assert reason_of("That is all I needed to know. [END]") == turns.ENDED
    for text in ("Why is it green? [end]", "[END] And what of the lamp?", "[END]\n[END]"):
        assert reason_of(text, may_end=True) == turns.UNREADABLE, text


def test_what_was_cut_off_stays_only_where_the_recipe_says_so() -> None:
    assert reason_of("And how often should I", cut=True) == turns.CUT
    assert read("And how often should I", cut=True, keep_cut=True).cut and not read("And why?", keep_cut=True).cut


def test_an_assistant_may_give_a_long_text_back_and_not_a_short_one() -> None:
    letter = "Dear Sir, " + "the parcel that I ordered in May has not come, and nobody answers the telephone. " * 8
    long: tuple[Message, ...] = ({"role": "user", "content": f"Mend the spelling of this:\n{letter}"},)
    mended = turns.read_assistant(letter.replace("May", "June"), long, cut=False, keep_cut=False)
    assert mended.text.startswith("Dear Sir")
    for text, reason in (("How do I keep basil alive through the winter in a small flat?", turns.FLIPPED), (" ", turns.EMPTY)):
        with pytest.raises(turns.UnfitError) as error:
            turns.read_assistant(text, TALK[:1], cut=False, keep_cut=False)
        assert error.value.reason == reason
    again: tuple[Message, ...] = (*TALK, {"role": "user", "content": "Why?"})
    with pytest.raises(turns.UnfitError) as error:
        turns.read_assistant(TALK[1]["content"], again, cut=False, keep_cut=False)
    assert error.value.reason == turns.AGAIN
    flips = ["User: And then?", "**User:** And then?\n**Assistant:** So.", "> User: q", "### Human: more", "Assistant: It wilts."]
    for flip in flips:
        with pytest.raises(turns.UnfitError) as error:
            turns.read_assistant(f"Because.\n\n{flip}", again, cut=False, keep_cut=False)
        assert error.value.reason == turns.FLIPPED, flip
    explained = "Two words:\n- **User:** who asks\n- **Assistant:** who answers\nAI: artificial intelligence"
    assert turns.read_assistant(explained, again, cut=False, keep_cut=False).text == explained
