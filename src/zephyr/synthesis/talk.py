"""A dialogue: one teacher plays the user, another the assistant, and each sees what a person in its place would see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zephyr.records import Message, seeded_unit
from zephyr.synthesis import turns
from zephyr.synthesis.openings import Opening, Place, answer
from zephyr.synthesis.steps import Ask, Steps
from zephyr.synthesis.texts import Texts

LABELS = {"user": "Person", "assistant": "Assistant"}


@dataclass
class Talk:
    """One dialogue from its first turn on.

    Attributes:
        place: what it was begun from.
        opening: the first turn.
        rounds: how many turns of the user it may have, each with its answer.
        least: from how many on it may end of its own accord.
        messages: what was said.
        cut: turns that were cut off at max_new_tokens, and stay.
        ended: `rounds`, when it had as many as were drawn, or `user`, when the user had nothing more to say.
    """

    place: Place
    opening: Opening
    rounds: int
    least: int
    messages: list[Message] = field(default_factory=list)
    cut: int = 0
    ended: str = "rounds"

    def steps(self, texts: Texts, *, keep_cut: bool) -> Steps[None]:
        """Turn by turn, until it ends; what was said stays in `messages`, also where it comes to nothing."""
        self.messages, self.cut = [{"role": "user", "content": self.opening.prompt}], int(self.opening.cut)
        while True:
            said: turns.Turn = yield answer(texts, tuple(self.messages), keep_cut=keep_cut)
            self._take("assistant", said)
            done = len(self.messages) // 2
            if done == self.rounds:
                return
            said = yield ask_user(texts, tuple(self.messages), may_end=done >= self.least, keep_cut=keep_cut)
            if said.ends:
                self.ended = "user"
                return
            self._take("user", said)

    def _take(self, role: turns.Role, said: turns.Turn) -> None:
        self.messages.append({"role": role, "content": said.text})
        self.cut += said.cut


def begin(place: Place, opening: Opening, rounds: Sequence[int], seed: int) -> Talk:
    """A dialogue with its number of turns drawn, by a hash of the seed and its place; `rounds` are the least and the most."""
    least, most = rounds
    drawn = least + int(seeded_unit(seed, "turns", place.name) * (most - least + 1))
    return Talk(place, opening, drawn, least)


def ask_user(texts: Texts, before: tuple[Message, ...], *, may_end: bool, keep_cut: bool) -> Ask:
    """The question for the user's next turn.

    The teacher is shown the conversation as a text: sent as turns of its own with the roles turned round, it would soon play its own.
    """
    told = texts.say("user") + (f"\n\n{texts.say('user_may_end')}" if may_end and texts.say("user_may_end") else "")
    shown = "\n\n".join(f"{LABELS[m['role']]}: {m['content']}" for m in before)

    def read(text: str, cut: bool) -> turns.Turn:
        return turns.read_user(text, before, cut=cut, may_end=may_end, keep_cut=keep_cut)

    messages: tuple[Message, ...] = (
        {"role": "system", "content": told},
        {"role": "user", "content": texts.say("next_turn", dialogue=shown)},
    )
    return Ask("user", messages, read, "user's turn")
