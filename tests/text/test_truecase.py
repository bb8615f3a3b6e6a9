"""Capitals come back where they were, and what must not be touched is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zephyr.errors import DataError
from zephyr.text.cased_words import needs_case, words_of
from zephyr.text.truecase import Truecaser

TEXTS = [
    "We went to Paris in March. The train from London takes two hours. In Paris it rained.",
    "She works at NASA, and lives near Paris. Her friend has an iPhone. In New York it is late.",
    "The march from Lyon to Paris was long. In New York we saw NASA engineers with an iPhone.",
    "They march on. We march with them. It began in March. He came in March. We left in March for New York.",
    "Look.\n\nThey march to Lyon.\n\nThey march to Rome.\n\nThey march, as they did.\n\nNew York is big: New York has parks. New York, in short.",
    "In New York they stay; to New York they go, and from New York they come. It is NASA's, and Paris's.",
    "It has a new name, a new owner, a new roof, a new door and a new garden; the new tenants like new things.",
    "A new friend came with new shoes. The new house is old. Some new plans, e.g. for the garden, were made.",
]


@pytest.fixture(scope="module")
def model() -> Truecaser:
    return Truecaser.train(TEXTS)


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("we saw paris. it was late.", "We saw Paris. It was late."),
        ("they march to paris in march.", "They march to Paris in March."),
        ("is nasa in new york? i'm quite new here, and i've an iphone.", "Is NASA in New York? I'm quite new here, and I've an iPhone."),
        ("our friend, e.g. from paris, came", "Our friend, e.g. from Paris, came"),
        ("a new house in new york", "A new house in New York"),
        ("iphone prices rose.", "iPhone prices rose."),
        ("paris's parks; paris\u2019s trains; paris-bound", "Paris's parks; Paris\u2019s trains; Paris-bound"),
        ("use `paris` and https://paris.fr/march or a_paris, paris.py, x@paris.fr, #paris", None),
        ("```\nprint(paris)\n```\nthis prints paris.", "```\nprint(paris)\n```\nThis prints Paris."),
        ("for i in range(3): it runs.", "For i in range(3): It runs."),
        ("WE SAW PARIS and McDonald.", None),
        ("", None),
    ],
)
def test_capitals(model: Truecaser, given: str, right: str | None) -> None:
    expected = right if right is not None else given if not given.startswith("use") else "U" + given[1:]
    assert model.apply(given) == expected
    assert model.apply(expected) == expected


def test_a_dialogue_is_changed_where_it_needs_it(model: Truecaser) -> None:
    good = {"role": "assistant", "content": "It is in paris, they say. The Louvre is there."}
    done, changed = model.dialogue([{"role": "user", "content": "where is the louvre? i think in paris."}, good])
    assert done[0]["content"] == "Where is the louvre? I think in Paris." and changed == 3
    assert done[1] == good
    assert model.needs([{"role": "user", "content": "where is the louvre?"}]) and not model.needs([good])


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("how do i bake bread? thanks", True),
        ("It is late and i am tired.", True),
        ("how to sort a list", True),
        ("ok", False),
        ("How do I bake bread? Thanks.", False),
        ("def f(x): return {x: 1}; y = f(2)", False),
        ("```\nsort it\n```", False),
        ("e.g. this. The rest is right. It has capitals. All of it.", False),
        ("1. first item\n2. second item", False),
        ("日本語の文章です。", False),
    ],
)
def test_who_needs_it(text: str, needs: bool) -> None:
    assert needs_case(text) is needs


def test_training_does_not_depend_on_order_and_the_file_comes_back(model: Truecaser, tmp_path: Path) -> None:
    assert Truecaser.train(reversed(TEXTS)) == model
    assert Truecaser.train([*TEXTS, "we saw paris and paris and paris. it was paris."]) == model  # has no capitals to learn from
    model.save(tmp_path / "model.json")
    assert Truecaser.load(tmp_path / "model.json") == model
    Truecaser.train(reversed(TEXTS)).save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "model.json").read_bytes()
    with pytest.raises(DataError, match="no text with capitals"):
        Truecaser.train(["all small. nothing else. i say."])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "of version 99, this is version 1"),
        ({"kind": "other"}, "not a truecaser"),
        ({"forms": {"paris": "LONDON"}}, "as another word"),
        ({"after": {"in march": 3}}, "damaged"),
        ({"starts": None}, "damaged"),
    ],
)
def test_a_file_that_is_none(model: Truecaser, tmp_path: Path, change: dict[str, object], message: str) -> None:
    file = tmp_path / "model.json"
    model.save(file)
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        Truecaser.load(file)
    with pytest.raises(DataError, match="cannot be read"):
        Truecaser.load(tmp_path / "absent.json")
    file.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not even JSON"):
        Truecaser.load(file)


@settings(max_examples=50, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["paris ", "i", ".", "\n", "`", "```", "İ ", "ß ", "new ", "york", "1. ", "- ", "'s"])).map("".join),
    )
)
def test_letters_stay_and_a_second_time_changes_nothing(text: str) -> None:
    model = Truecaser(forms={"paris": "Paris", "york": "York"}, after={"new york": "York"})
    done = model.apply(text)
    assert len(done) == len(text) and done.lower() == text.lower()
    assert all(a == b or (a.islower() and b.isupper()) for a, b in zip(text, done, strict=True))
    assert model.apply(done) == done


def test_long_text_takes_linear_time(model: Truecaser) -> None:
    for piece in ("a", "`", "paris ", "a.b", "\n", "i i i. "):
        text = piece * (30_000 // len(piece))
        assert len(model.apply(text)) == len(text)
        needs_case(text)


def test_real_books(shared: Path) -> None:
    """Small letters throughout, of a book it has not seen: most capitals come back, and the book as it is stays as it is."""
    with gzip.open(shared / "data" / "text" / "public_domain_books.jsonl.gz", "rt", encoding="utf-8") as file:
        books = [json.loads(line)["text"] for line in file]
    model = Truecaser.train(text[20_000:70_000] for text in books[1:])
    text = books[0][60_000:110_000]
    assert len(text.lower()) == len(text)
    small, done, kept = text.lower(), model.apply(text.lower()), model.apply(text)
    words = [(w.start, w.start + len(w.text)) for w in words_of(text) if not w.fixed]
    lost = sum(small[a:b] != text[a:b] for a, b in words)
    wrong = sum(done[a:b] != text[a:b] for a, b in words)
    harmed = sum(kept[a:b] != text[a:b] for a, b in words)
    assert len(words) > 8_000 and lost > 0.06 * len(words)
    assert wrong < 0.4 * lost and harmed < 0.005 * len(words)
