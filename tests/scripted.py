"""A teacher that writes dialogues by rote: what it says is a function of what it is sent, and a share of it is wrong in known ways."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping

TEXT = (
    "amber anchor apple arrow autumn badge bamboo barley basin beacon bell birch blanket bottle bridge bronze butter cabin candle canyon "
    "carbon castle cedar cellar chalk cherry circle clay cliff cloud clover cobalt comet copper coral cotton crane crystal dawn delta desert "
    "diamond drum eagle echo ember engine falcon feather fern fiddle flint forest fossil fountain galaxy garden garnet glacier granite grove "
    "harbour hazel helmet heron hollow honey horizon island ivory jasmine jungle kernel kettle lagoon lantern laurel lemon lichen lily linen "
    "magnet mango maple marble meadow mercury meteor mirror morning moss mountain nectar needle nickel oasis ocean olive onyx orbit orchard "
    "otter oyster paper pearl pebble pepper pine planet plum pollen pond prairie prism quartz quill raven reef ribbon river rocket saddle "
    "saffron salmon sapphire satin shadow silver spruce stone storm summit sunset swallow temple thistle thunder timber topaz tower trail "
    "tulip tundra valley vapour velvet violet walnut water willow window winter"
)
WORDS = TEXT.split()
# what may go wrong, by what is asked for, and how often
NONE: dict[str, float] = {}
SOME = {
    "prose for a list": 0.04,
    "gap in a list": 0.02,
    "stock question": 0.02,
    "preamble": 0.02,
    "empty user": 0.02,
    "flipped user": 0.02,
    "thanks": 0.02,
    "end": 0.05,
    "echo": 0.01,
    "empty answer": 0.01,
    "flipped answer": 0.01,
}
STOCK = "What is the meaning of all the small things that nobody ever looks at?"


def teacher(faults: Mapping[str, float] = NONE) -> Callable[[list[dict[str, str]]], str]:
    """What it answers to messages, wrong with the given shares."""

    def answer(messages: list[dict[str, str]]) -> str:
        digest = hashlib.sha256(json.dumps(messages).encode()).hexdigest()
        rng = random.Random(digest)
        first, last = messages[0]["content"], messages[-1]["content"]
        asked = messages[1]["content"] if first.startswith("You play a person") else first
        wrong = lambda name: rng.random() < faults.get(name, 0.0)  # noqa: E731
        if found := re.search(r"numbered list of (\d+)|items\": \[.*?with (\d+) texts", asked):
            return as_list(rng, int(found[1] or found[2]), wrong, as_json=found[2] is not None)
        if first.startswith("You play a person"):
            return user(rng, asked, wrong, may_end="[END]" in first)
        if first.startswith(("This is an instruction", "This is a task for a writer")):
            return ("Sure, here is the new instruction:\n" if wrong("preamble") else "") + sentence(rng, "Describe how", 12) + "."
        if wrong("empty answer"):
            return "  \n"
        if wrong("flipped answer"):
            return f"{sentence(rng, 'It is', 9)}.\n\nUser: {sentence(rng, 'And', 5)}?"
        return f"{sentence(rng, 'It is so that', 25)}. {sentence(rng, 'Besides', 15)}. ({len(last)} characters were asked.)"

    return answer


def as_list(rng: random.Random, count: int, wrong: Callable[[str], bool], *, as_json: bool) -> str:
    """A list of questions, or something like it."""
    if wrong("prose for a list"):
        return sentence(rng, "I would think of", 8)
    items = [sentence(rng, "What has", 9) + "?" for _ in range(count)]
    if wrong("stock question"):
        items[0] = STOCK
    if as_json:
        return json.dumps({"items": items})
    numbers = [i + 1 + (wrong("gap in a list") and i > 1) for i in range(count)]
    return "".join(f"{number}. {item}\n" for number, item in zip(numbers, items, strict=True))


def user(rng: random.Random, shown: str, wrong: Callable[[str], bool], *, may_end: bool) -> str:
    """What a person says next, or what none would say."""
    if wrong("empty user"):
        return "..."
    if wrong("flipped user"):
        return "Certainly! How can I help you today?"
    if wrong("thanks"):
        return "Thank you so much, goodbye!"
    if wrong("echo"):
        return shown.rpartition("Assistant: ")[2].partition("\n\nWhat does the person say")[0]
    if may_end and wrong("end"):
        return "[END]"
    return "Person: " + sentence(rng, "But why would", 9) + "?"


def sentence(rng: random.Random, start: str, count: int) -> str:
    """Some words."""
    return " ".join([start, *rng.choices(WORDS, k=count)])
