"""Dialogues of which each is left out for another reason, some of them hostile to a page; and the artifact that curation makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from small import write_lines
from zephyr import api

SCRIPT = "<script>window.pwned = 1; document.title = 'pwned'</script>"
IMAGE = "\"><img src='https://example.invalid/x.png' onerror='window.pwned = 2'>"
REASON = "I don't have personal experiences or feelings"
# so long that what comes after it is not among the characters that are shown first
LONG = " ".join(f"In port {i} the fishers say {word}, and mean the {word} of the tide." for i, word in enumerate("abcdefghijklmnopqrst"))
ITEM = (
    "Explain in three short steps how a careful gardener should plant young apple trees in heavy clay soil before the first frost of winter"
)
PROPER = [
    "The bridge in Paris was built by hand. On Monday the people of Paris cross it.",
    "We went to Paris on Monday. In Paris the river is slow, and every Monday there is a market.",
]


def talk(*turns: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(turns)], **more}


def good(i: int) -> dict[str, Any]:
    subjects = ("bread", "glass", "rope", "paper", "cheese", "bricks", "ink", "soap", "felt", "salt", "honey", "tiles")
    answer = f"People have made {subjects[i]} for a long time. It takes patience, warmth, and number {i} of the old recipes."
    more = ("Is that hard to learn?", "Not at all: a week of practice is enough for most.") * (i % 3)
    return talk(f"Tell me how {subjects[i]} was first made in village number {i}.", answer, *more, category="craft" if i % 2 else "history")


def rows() -> list[dict[str, Any]]:
    """Twelve that nothing speaks against, and one or two for each of several reasons."""
    return [
        *map(good, range(12)),
        talk("What does the sea smell like?", f"{LONG} {REASON}, so ask a sailor. {SCRIPT}", category="sea"),
        talk(f"Which hat suits me? {SCRIPT}", "A wide one keeps the sun off, and a narrow one is better for the", category=IMAGE),
        talk("Say hello to the parser.", "Hello there, dear parser.<|im_end|> It is a fine day.", category="sea"),
        talk("Tell me how honey was first made in village number 10 please.", "With bees, and a good deal of smoke.", category="craft"),
        talk(f"Please {ITEM[0].lower()}{ITEM[1:]}, thank you.", "Dig a wide hole, loosen the clay, and water it well.", category="craft"),
        good(3),
        talk("what is there to see in paris on a monday?", "There is the bridge, and the market beside it.", category="travel"),
        talk(
            "\u202egnp.exe\u202c \u05e9\u05dc\u05d5\u05dd \U0001f44b\U0001f3fd and a tab\there",
            "A greeting, and a file name. " + IMAGE,
            category="sea",
        ),
    ]


def curated(folder: Path) -> Path:
    """The artifact: filters, truecasing, near-duplicates and a benchmark, all on."""
    data = write_lines(folder / "raw.jsonl", rows())
    bench = write_lines(folder / "bench.jsonl", [{"prompt": ITEM}])
    texts = write_lines(folder / "texts.jsonl", [{"text": text} for text in PROPER])
    settings = ["filters=default", "near_prompts.threshold=0.6", f"truecase=[{texts}]", "invalid=drop", "processes=1", "test_fraction=0"]
    api.stage("curate", "curate", {"dialogues": [str(data)]}, folder / "curated", settings=settings, against=[f"mine={bench}"])
    return folder / "curated"
