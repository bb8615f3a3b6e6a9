"""What an inspection says of data of each kind: what was left out and why, samples, distributions; and the command that shows it."""

from __future__ import annotations

import gzip
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import inspecting
import pytest
from inspecting import talk

from small import write_lines
from zephyr import inspection
from zephyr.cli import main
from zephyr.errors import DataError, UsageError
from zephyr.inspection import Inspection
from zephyr.inspection.cards import Card
from zephyr.inspection.victims import victim
from zephyr.recipe import FilterConfig


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspecting.curated(tmp_path_factory.mktemp("curated"))


def cards_of(found: Inspection) -> dict[str, Card]:
    """The one victim of each reason."""
    return {stratum.label: card for stratum in found.victims for card in stratum.cards}


def marked(card: Card) -> list[str]:
    """What is marked in what is shown first."""
    return [p.text for b in (*card.blocks, *card.sides) for p in (*b.text.pieces, *b.text.more) if p.mark]


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


# --- an artifact of curation -------------------------------------------------------------------------------------


def test_what_was_left_out_is_shown_with_its_reason(artifact: Path) -> None:
    found = inspection.inspect(artifact)
    assert found.reasons == {
        "duplicate of an earlier row": 1,
        "filter: disclaimer": 1,
        "filter: template-tokens": 1,
        "filter: truncated": 1,
        "in the benchmark mine (ngram)": 1,
        "near-duplicate prompt": 1,
    }
    victims = cards_of(found)
    assert set(victims) == set(found.reasons)
    assert marked(victims["filter: disclaimer"]) == [inspecting.REASON]
    assert marked(victims["filter: template-tokens"]) == ["<|im_end|>"]
    assert marked(victims["filter: truncated"]) == ["A wide one keeps the sun off, and a narrow one is better for the"]
    # the item, and the words of it that the prompt has
    item, words = marked(victims["in the benchmark mine (ngram)"])
    assert item == inspecting.ITEM and words.lower() == item.lower()
    # beside the row that it is like: the words that are not in both
    near = victims["near-duplicate prompt"]
    assert [block.title for block in near.sides] == ["this row", "the row that it is like"]
    assert marked(near) == ["10 please.", "10."]
    assert near.where.endswith("raw.jsonl:16") and near.like.endswith("raw.jsonl:11")
    assert "says the same as" in victims["duplicate of an earlier row"].note
    assert found.preview is None  # they have been through the filters


def test_a_filter_is_asked_again_where_nobody_wrote_down_what_it_found() -> None:
    (row,) = [row for row in inspecting.rows() if inspecting.REASON in row["messages"][1]["content"]]
    card = victim({"reason": "filter: disclaimer", "where": "x:1", "row": row}, "id", FilterConfig())
    assert marked(card) == [inspecting.REASON]
    assert "finds nothing" in victim({"reason": "filter: looping", "where": "x:1", "row": row}, "id", FilterConfig()).note


def test_a_partner_whose_data_changed_is_not_shown(artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    made = inspecting.curated(folder)
    raw = folder / "raw.jsonl"
    lines = raw.read_text(encoding="utf-8").splitlines()
    raw.write_text("\n".join(reversed(lines)) + "\n", encoding="utf-8")  # another row stands there now
    near = cards_of(inspection.inspect(made))["near-duplicate prompt"]
    assert near.sides == () and "not at hand" in near.note and near.blocks


def test_case_before_and_after(artifact: Path) -> None:
    found = inspection.inspect(artifact)
    assert found.truecased is not None
    (card,) = found.truecased.cards()
    assert marked(card) == ["what", "paris", "monday?", "What", "Paris", "Monday?"]
    assert (found.truecased.dialogues, found.truecased.words) == (1, 3)
    assert ("paris", "Paris", 1) in found.truecased.most_changed(5)


def test_the_page_is_safe_and_whole(artifact: Path) -> None:
    html = inspection.page(inspection.inspect(artifact))
    page = Page(html)
    text = "".join(page.text)
    assert {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe", "object", "base", "form"} == set()
    assert not [value for _, attributes in page.tags for name, value in attributes.items() if name.startswith("on") or name == "src"]
    assert {value for _, attributes in page.tags for name, value in attributes.items() if name == "href"} <= {
        "#main", "#became", "#left-out", "#case", "#samples", "#distributions", "#would",
    }  # fmt: skip
    # what the data says is there to read, and what cannot be seen is shown by its number
    assert inspecting.SCRIPT in text and inspecting.IMAGE in text
    assert "⟨U+202E⟩gnp.exe⟨U+202C⟩" in text and "\u202e" not in html
    assert "\N{WAVING HAND SIGN}\U0001f3fd" in text
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "script" not in policy
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    # every picture has its numbers in a table
    assert html.count('<svg class="histogram"') == html.count("<summary>The numbers</summary>") > 2


def test_the_command(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run("inspect", str(artifact), "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["kind"], value["rows"], value["came_in"], value["went_out"]) == ("dialogues", 14, 20, 14)
    assert value["page"] == "inspect.html" and "<h1>14 dialogues</h1>" in Path("inspect.html").read_text(encoding="utf-8")
    assert value["reasons"]["filter: disclaimer"] == 1
    assert value["victims"]["filter: disclaimer"][0]["where"].endswith("raw.jsonl:13")
    strata = value["strata"]["By topic, turns and length"]
    assert sum(strata["counts"].values()) == 14 and all(strata["samples"].values())
    assert sum(one["count"] for one in value["distributions"]["turns"]["bins"]) == 14
    assert value["names"]["category"]["counts"]["craft"] == 6
    assert _run("inspect", str(artifact), "--out", "sub/look.html", "--samples", "1") == 0
    assert "case was mended in 1 dialogues" in capsys.readouterr().out
    assert Path("sub/look.html").exists()
    assert _run("inspect", str(artifact), "--out", "rows.jsonl") == 2
    assert _run("inspect", str(artifact), "--samples", "0") == 2
    capsys.readouterr()
    assert _run("inspect", str(artifact.parent)) == 2
    assert f"the folder of a run; name one of its artifacts: {artifact}" in capsys.readouterr().err


def _run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


# --- dialogues that nobody has curated ---------------------------------------------------------------------------


def test_what_the_filters_would_leave_out(tmp_path: Path) -> None:
    found = inspection.inspect(write_lines(tmp_path / "raw.jsonl", inspecting.rows()))
    assert found.preview is not None and found.reasons == {}
    counts = found.preview.samples().counts
    assert counts == {"filter: disclaimer": 1, "filter: template-tokens": 1, "filter: truncated": 1}
    assert found.preview.looked_at == found.preview.rows == 20
    (card,) = found.preview.samples().cards("filter: disclaimer")
    assert marked(card) == [inspecting.REASON]
    assert "Nothing has been left out" in inspection.page(found)


def test_samples_do_not_depend_on_the_order(tmp_path: Path) -> None:
    rows = [talk(f"Question {i}?", f"Answer {i}. " * (1 + i % 7), category=f"topic {i % 3}") for i in range(400)]
    rows.append(rows[7])
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    values = []
    for name, there in (("one", rows), ("other", shuffled)):
        value = inspection.inspect(write_lines(tmp_path / f"{name}.jsonl", there)).json()
        values.append(json.dumps(value, sort_keys=True, default=lambda _: None))
    same = [re.sub(r'"(where|sources)": ("[^"]*"|\[[^\]]*\])', "", text) for text in values]
    assert same[0] == same[1]
    other = inspection.inspect(tmp_path / "one.jsonl", seed=1).json()
    assert other["strata"] != json.loads(values[0])["strata"]


def test_rows_of_other_kinds_and_of_none(tmp_path: Path) -> None:
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    mixed = write_lines(tmp_path / "mixed.jsonl", [talk("a", "b"), pair])
    with pytest.raises(DataError, match=r"mixed\.jsonl:2: a row of preferences among dialogues \(the first is .*mixed\.jsonl:1\)"):
        inspection.inspect(mixed)
    with pytest.raises(DataError, match="none of these: dialogues"):
        inspection.inspect(write_lines(tmp_path / "other.jsonl", [{"colour": "blue"}]))
    with pytest.raises(DataError, match="no rows to look at"):
        inspection.inspect(write_lines(tmp_path / "empty.jsonl", []))
    with pytest.raises(UsageError, match="no such file"):
        inspection.inspect(tmp_path / "absent.jsonl")
    # among others, a row that cannot be read is counted and shown
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(talk("a", "b")) + '\nnot JSON\n{"messages": [{"role": "user"}]}\n{"messages": []}\n', encoding="utf-8")
    found = inspection.inspect(path)
    assert (found.rows, found.specimens, found.unreadable, len(found.faults)) == (4, 1, 3, 3)
    assert "3 rows could not be read" in inspection.page(found)


def test_odd_texts(tmp_path: Path) -> None:
    """Ten megabytes, lone surrogates, NaN, no answer, roles that are no roles."""
    rows = [
        talk("Tell me all.", "word " * 2_000_000),
        talk("\ud800 lone", "\x00\x07 and \u0627\u0644\u0633\u0644\u0627\u0645 \U0001f468\u200d\U0001f469\u200d\U0001f467", source=SOURCE),
        {"messages": [{"role": "</summary><b>", "content": ""}], "category": "\ud800"},
        *({**talk(f"q {i}", "a"), "prompt_id": "id-" + "x" * 5000} for i in range(3)),
    ]
    path = tmp_path / "odd.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    found = inspection.inspect(path)
    html = inspection.page(found)
    assert len(html.encode("utf-8")) < 200_000
    assert "more characters are not shown" in html and "⟨U+D800⟩" in html and "␀␇ and" in html
    assert "</summary><b>" not in html
    json.dumps(found.json(), ensure_ascii=False).encode("utf-8")
    inspection.describe(found).encode("utf-8")


SOURCE = "a & b <i>"


def test_many_topics_fall_back_on_turns_and_length(tmp_path: Path) -> None:
    rows = [talk(f"q {i}", "a", source=f"https://example.com/{i}") for i in range(700)]
    value = inspection.inspect(write_lines(tmp_path / "many.jsonl", rows)).json()["strata"]["By topic, turns and length"]
    assert value["coarse"] and value["counts"] == {"1 exchange, under 512 characters": 700}


# --- ratings and preferences -------------------------------------------------------------------------------------


def test_ratings(tmp_path: Path) -> None:
    def answer(model: str, score: float | None, rating: int) -> dict[str, Any]:
        aspects = {"helpfulness": {"rating": rating, "rationale": "so"}}
        return {"model": model, "response": f"{model} says {score}", "overall_score": score, "annotations": aspects, "critique": "Short."}

    rows = [{"prompt": f"p {i}", "completions": [answer("big", 9, 5), answer("small", 2, 1), answer("small", None, 4)]} for i in range(5)]
    found = inspection.inspect(write_lines(tmp_path / "ratings.jsonl", rows))
    value = found.json()
    assert (value["kind"], value["rows"], value["answers"]) == ("ratings", 5, 15)
    assert list(value["strata"]["By score"]["counts"].items()) == [
        ("overall score 1 to under 3", 5),
        ("overall score 9 to 10", 5),
        ("mean of aspects 4 to 5", 5),
    ]
    assert value["strata"]["By model"]["counts"] == {"small": 10, "big": 5}
    assert value["names"]["model"]["mean_score"] == {"big": 9, "small": 3}
    assert value["distributions"]["overall score"]["mean"] == 5.5
    assert "Short." in inspection.page(found)
    unrated = [{"prompt": "p", "completions": [{"model": "big", "response": "r"}]}]
    assert "none of them rated" in inspection.describe(inspection.inspect(write_lines(tmp_path / "answers.jsonl", unrated)))


def test_preferences(tmp_path: Path) -> None:
    def pair(chosen: object, rejected: object, **more: Any) -> dict[str, Any]:
        texts = {"chosen": "The river is wide and slow here.", "rejected": "The river is wide and fast here."}
        return {"prompt": f"p {chosen} {rejected}", **texts, "score_chosen": chosen, "score_rejected": rejected, **more}

    rows = [
        pair(9, 2),
        pair(5, 5),
        pair(5, 4.5),
        pair(1, 3),
        pair("high", 1),
        pair(None, None),
        pair(8, 1, chosen_model="big", rejected_model="small"),
    ]
    found = inspection.inspect(write_lines(tmp_path / "pairs.jsonl", rows))
    value = found.json()
    assert list(value["strata"]["By margin"]["counts"].values()) == [1, 1, 1, 2, 1, 1]
    assert list(value["strata"]["By margin"]["counts"])[:2] == ["reversed: the rejected answer scores higher", "tie: both score the same"]
    assert value["strata"]["By model"]["counts"] == {"models not named": 6, "big over small": 1}
    assert (value["distributions"]["margin"]["min"], value["distributions"]["margin"]["max"]) == (-2, 7)
    cards = found.groupings["By margin"].samples().cards("tie: both score the same")
    assert marked(cards[0]) == ["slow", "fast"]
    assert "By margin" in inspection.page(found)


def test_artifacts_of_a_run(small_run: Any) -> None:
    """Each stage that makes rows, in one word; the run's folder as a whole is not one kind of rows."""
    kinds = {stage: inspection.inspect(small_run.out / stage).kind.name for stage in ("curate", "complete", "rate", "binarize", "evaluate")}
    assert kinds == {
        "curate": "dialogues", "complete": "ratings", "rate": "ratings", "binarize": "preferences", "evaluate": "ratings",
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"the folder of a run; name one of its artifacts: .*curate, .*rate"):
        inspection.inspect(small_run.out)


def test_real_pairs(shared: Path) -> None:
    found = inspection.inspect(shared / "data" / "feedback" / "ultrafeedback_binarized_1k.jsonl.gz").json()
    assert (found["kind"], found["rows"], found["unreadable"]) == ("preferences", 1000, 0)
    assert found["strata"]["By margin"]["counts"]["tie: both score the same"] == 111  # as its description says
    assert round(found["distributions"]["score of chosen"]["mean"], 2) == 7.81
