"""Five thousand generated replies of a judge that are wrong in some way: none is coerced into a rating, and none vanishes."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import small
from zephyr.api import stage
from zephyr.artifacts import Artifact
from zephyr.errors import DataError
from zephyr.hashes import canonical
from zephyr.records import ASPECTS
from zephyr.teachers import Reply, Request, ask
from zephyr.teachers.rubric import parse_reply

COUNT = 5000
DIGITS = ("٣", "３", "३", "³", "Ⅲ", "三", "3\u200b", "𝟑")


def good(rng: random.Random) -> dict[str, Any]:
    annotations = {name: {"rationale": f"On {name}.", "rating": rng.randint(1, 5)} for name in ASPECTS}
    return {"annotations": annotations, "critique": "It is what it is.", "overall_score": rng.randint(1, 10)}


def _score(value: dict[str, Any], rng: random.Random, score: Any) -> str:
    """A whole verdict but for one score."""
    where = rng.choice([*ASPECTS, "overall"])
    if where == "overall":
        value["overall_score"] = score
    else:
        value["annotations"][where]["rating"] = score
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def _bare(value: dict[str, Any], rng: random.Random, text: str) -> str:
    """A verdict whose JSON holds `text` where a number belongs."""
    value["overall_score"] = "HERE"
    return json.dumps(value).replace('"HERE"', text)


def _without(value: dict[str, Any], rng: random.Random) -> str:
    where = rng.choice(["aspect", "rating", "rationale", "annotations", "critique", "overall_score"])
    name = rng.choice(ASPECTS)
    if where == "aspect":
        del value["annotations"][name]
    elif where in ("rating", "rationale"):
        del value["annotations"][name][where]
    else:
        del value[where]
    return json.dumps(value)


def _quoted(value: dict[str, Any], rng: random.Random) -> str:
    """A perfect verdict that stands inside the answer which the judge quotes, and none of its own."""
    return rng.choice(['The answer says: "{}"', "> {}", "{}\n\nThat is what the answer claims.", "[answer]\n{}\n[end]"]).format(
        json.dumps(value)
    )


Make = Callable[[dict[str, Any], random.Random], str]
WRONG: dict[str, Make] = {
    "out of ten": lambda v, r: r.choice(["10/10", "Score: 9/10", "[[11]]", "[[7]]", "Rating: 4", "5", "8.5", "**9**", "I'd say 7 out of 10."]),
    "score as text": lambda v, r: _score(v, r, r.choice(["10/10", "4", "[[11]]", "five", "4/5", "", "1", " 3 "])),
    "outside": lambda v, r: _score(v, r, r.choice([0, -1, 11, 100, 10**400, -(10**20)])),
    "not whole, or no number": lambda v, r: _score(v, r, r.choice([None, True, False, [], {}, [3], {"rating": 3}])),
    "unicode digits as text": lambda v, r: _score(v, r, r.choice(DIGITS)),
    "unicode digits bare": lambda v, r: _bare(v, r, r.choice(DIGITS)),
    "no JSON number": lambda v, r: _bare(v, r, r.choice(["NaN", "Infinity", "-Infinity", "+3", "03", "3.", ".5", "0x3", "1_0", "3e", "٣", "1/2"])),
    "two verdicts": lambda v, r: json.dumps(v) + r.choice(["", "\n", "\n\n", " ", ","]) + json.dumps(good(r)),
    "two in a list": lambda v, r: json.dumps([v, good(r)]),
    "inside the answer": _quoted,
    "words around": lambda v, r: r.choice(["Here is my rating:\n{}", "{}\nHope this helps!", "```json\n{}\n```\nDone.", "<think>{}</think>", "<think>ok{}", "Hm.<think>ok</think>{}"]).format(json.dumps(v)),
    "cut off": lambda v, r: (lambda text: text[: r.randrange(len(text) - 1)])(json.dumps(v)),
    "a key twice": lambda v, r: json.dumps(v)[:-1] + f', "overall_score": {r.randint(1, 10)}}}',
    "a key more": lambda v, r: json.dumps({**v, r.choice(["verdict", "score", "Overall_Score", "rating", "final"]): r.randint(1, 10)}),
    "a key less": _without,
    "an aspect more": lambda v, r: json.dumps({**v, "annotations": {**v["annotations"], r.choice(["safety", "Honesty", "honesty "]): {"rating": 5, "rationale": "x"}}}),
    "empty reasons": lambda v, r: (v["annotations"][r.choice(ASPECTS)].update(rationale=r.choice(["", " ", "\n"])), json.dumps(v))[1],
    "single quotes": lambda v, r: str(v),
    "comments": lambda v, r: json.dumps(v, indent=1).replace("\n", " // fine\n", 1),
    "very long": lambda v, r: r.choice(["x", "7", "[", '{"a":', " ", "10/10 "]) * r.choice([10_000, 100_000]),
    "nothing": lambda v, r: r.choice(["", " ", "\n\n", "null", "{}", "[]", '""', "true", "\ufeff"]),
    "half a character": lambda v, r: json.dumps({**v, "critique": "\ud800"}),
    "half a character as a key": lambda v, r: json.dumps(r.choice([{"\ud83d": 1}, {**v, "\ud83d": 1}, {**v, "annotations": {**v["annotations"], "\ud83d": {"x": 1}}}])),
    "not applicable": lambda v, r: (v["annotations"][r.choice(ASPECTS[:1] + ASPECTS[2:])].update(rating="N/A"), json.dumps(v))[1],
}  # fmt: skip


def generated(count: int = COUNT) -> list[tuple[str, str]]:
    rng = random.Random(11)
    kinds = list(WRONG)
    return [(kinds[i % len(kinds)], WRONG[kinds[i % len(kinds)]](copy.deepcopy(good(rng)), rng)) for i in range(count)]


def test_none_is_coerced() -> None:
    taken = Counter(kind for kind, text in generated() if _is_read(text))
    assert not taken, f"read as ratings: {taken}"


def _is_read(text: str) -> bool:
    try:
        parse_reply(text)
    except DataError:
        return False
    return True


def test_what_the_generator_spoils_was_good_before() -> None:
    rng = random.Random(0)
    for _ in range(50):
        value = good(rng)
        assert parse_reply(json.dumps(value)).overall_score == value["overall_score"]


@pytest.mark.parametrize(
    "text", ["[" * 5_000_000 + "]" * 5_000_000, '{"annotations": ' * 600_000, "9" * 10_000_000, '"' + "a" * 10_000_000]
)
def test_ten_megabytes_are_refused_in_a_moment(text: str) -> None:
    with pytest.raises(DataError) as error:
        parse_reply(text)
    assert len(str(error.value)) < 400


class Wrong:
    """A judge that answers with what was generated, wrong both times, but for some replies that are right."""

    def __init__(self, replies: Sequence[str]) -> None:
        self.replies_ = list(replies)
        self.given: dict[str, str] = {}

    def replies(self, requests: Mapping[str, Sequence[Request]]) -> Iterator[tuple[str, Reply]]:
        for name, theirs in requests.items():
            for request in theirs:
                canonical(list(request.messages)).encode("utf-8")  # as it is sent, and known by
                text = self.given.setdefault(f"{request.prompt_id} {request.subject}", self.replies_[len(self.given) % len(self.replies_)])
                yield name, Reply(request, text, "stop", 1)

    def status(self, left: int) -> str:
        return ""

    def bill(self) -> dict[str, Any]:
        return {}


def test_none_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    """Every one is set aside with its text and its reason, and counted; what was right beside it is kept."""
    wrong = [text for _, text in generated(len(WRONG) * 12)]
    rng = random.Random(1)
    judge = Wrong([text for bad in wrong for text in (bad, json.dumps(good(rng)))])
    prompts = [
        {"prompt": f"Question {i}?", "completions": [{"model": m, "response": f"{m} on {i}"} for m in small.POOL]}
        for i in range(len(wrong) // 2)
    ]
    file = small.write_lines(tmp_path / "c.jsonl", prompts)
    values = small.recipe(tmp_path / "data", Path("nowhere/model"))
    values["rate"] |= {"max_unparsed": 1.0}
    monkeypatch.setattr(ask, "opened", lambda *_, **__: contextlib.nullcontext(judge))
    stage("rate", "rate", {"completions": [str(file)]}, tmp_path / "out", recipe=small.write_recipe(tmp_path / "r.yaml", values))
    artifact = Artifact.open(tmp_path / "out")
    dropped = [json.loads(line) for line in (artifact.path / "dropped" / "dropped.jsonl").read_text().splitlines()]
    unread = [d["row"] for d in dropped if d["reason"] == "the teacher's reply could not be read"]
    rated = sum(len(r["completions"]) for split in artifact.splits() for r in artifact.rows(split))
    assert artifact.manifest.results["unparsed"] == len(unread) == artifact.manifest.results["asked_twice"] == len(wrong)
    assert Counter(r["reply"] for r in unread) == Counter(wrong) and all(r["error"] for r in unread)
    assert rated == len(prompts) * len(small.POOL) - len(wrong)
