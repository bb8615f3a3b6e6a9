"""What an inspection must not say: another row's text, shares of what they are no part of, strata that a score is not in, places in a text."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

import inspecting
import pytest
from inspecting import talk

from small import write_lines
from zephyr import api, inspection
from zephyr.inspection import cards, victims
from zephyr.inspection.cards import Card, Span

SIGHT = "The old tower by the harbour has a bell that rings at noon, and a light that burns all night for the ships."


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inspecting.curated(tmp_path_factory.mktemp("curated"))


def of_reason(found: inspection.Inspection) -> dict[str, Card]:
    return {stratum.label: stratum.cards[0] for stratum in found.victims}


def others(card: Card) -> str:
    """The text of the row that a row is said to be like."""
    return "".join(piece.text for block in card.sides[1:] for piece in (*block.text.pieces, *block.text.more))


def plain(shown: cards.Shown) -> str:
    return "".join(piece.text for piece in (*shown.pieces, *shown.more))


# --- the row that another is like --------------------------------------------------------------------------------


def test_a_place_in_another_folder_is_another_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        talk("What is there to see in town?", SIGHT),
        talk("Is there a sight that we should not miss?", SIGHT.replace("noon", "six")),  # a near dialogue
        talk("How do I mend a torn sail by hand at sea?", "With a needle and wax."),
        talk("How do I mend a torn sail by hand at sea today?", "Take it down first."),  # a near prompt
        talk("Who lights the lamp?", "The keeper.", prompt_id="lamp"),
        talk("Who rings the bell?", "The wind, on most days.", prompt_id="lamp"),  # the id repeats
    ]
    partner = {"near-duplicate dialogue": 0, "near-duplicate prompt": 2, "invalid: the id repeats with different content": 4}
    here, there = tmp_path / "here", tmp_path / "there"
    write_lines(here / "raw.jsonl", rows)
    # near what was left out as well, but by other words
    strangers = [talk(f"{row['messages'][0]['content']} Please.", f"{row['messages'][1]['content']} So it is.") for row in rows]
    long_ago = write_lines(there / "raw.jsonl", strangers)
    os.utime(long_ago, (1e9, 1e9))
    monkeypatch.chdir(here)
    near = ["near_dialogues.ngram=2", "near_dialogues.threshold=0.4", "near_dialogues.rows=2", "near_prompts.threshold=0.6"]
    settings = [*near, "invalid=drop", "processes=1", "test_fraction=0"]
    api.stage("curate", "curate", {"dialogues": ["raw.jsonl"]}, here / "curated", settings=settings)
    beside = of_reason(inspection.inspect(here / "curated"))
    assert set(beside) == set(partner)
    for reason, i in partner.items():
        assert beside[reason].like == f"raw.jsonl:{i + 1}" and rows[i]["messages"][0]["content"] in others(beside[reason])
    monkeypatch.chdir(there)
    alone = of_reason(inspection.inspect(here / "curated"))
    assert {reason: card.sides for reason, card in alone.items()} == dict.fromkeys(partner, ())
    assert all("not at hand" in card.note and card.blocks for card in alone.values())


# --- artifacts that are not quite what they were -----------------------------------------------------------------


def changed(artifact: Path, folder: Path, **fields: Any) -> Path:
    """An artifact whose manifest says something else."""
    shutil.copytree(artifact, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, **fields}), encoding="utf-8")
    return folder


def test_there_are_no_shares_of_what_is_counted_otherwise(artifact: Path, tmp_path: Path) -> None:
    html = inspection.page(inspection.inspect(artifact))
    assert "of what came in" in html and "30.0% of 20 that came in" in html
    other = inspection.inspect(changed(artifact, tmp_path / "other", rows_in=17))  # dialogues begun; what was left out were seeds, too
    html = inspection.page(other)
    assert "17 rows came in" in html and "of what came in" not in html and "that came in" not in html
    assert sum(other.reasons.values()) == 6 and ">filter: disclaimer</th>" in html


def test_filter_settings_of_another_version(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"filter_settings": {"language": "en", "mood": "mild"}}
    found = inspection.inspect(changed(artifact, tmp_path / "other", config=config))
    said = "this version does not know the settings of its filters (mood)"
    assert said in capsys.readouterr().err and said in inspection.page(found)
    assert "filter: disclaimer" in of_reason(found)


def test_changes_of_case_that_are_none(artifact: Path) -> None:
    found = inspection.inspect(artifact)
    assert found.truecased is not None and "could not be read" not in inspection.page(found)
    found.truecased.see("x:1", {"where": "x", "messages": []})
    found.truecased.see("x:2", {"where": "x", "messages": [{"before": "in paris, on monday", "after": "In the Paris of Monday"}]})
    assert (found.truecased.dialogues, found.truecased.words, found.truecased.skipped) == (1, 3, 2)
    assert "2 entries could not be read" in inspection.page(found) and "3 words; 2 entries could not be read" in inspection.describe(found)


def test_a_sample_is_called_one_only_where_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, fine = talk("Name a river.", "The Loire.<|im_end|>"), talk("Name a mountain.", "There is the Brocken, in the Harz.")
    path = write_lines(tmp_path / "raw.jsonl", [bad, fine, bad, bad])
    found = inspection.inspect(path)
    assert "tried on all 4 rows;" in inspection.page(found)
    assert "would leave out 3 of 4 rows looked at" in inspection.describe(found)
    monkeypatch.setattr(victims, "LOOKED_AT", 1)
    found = inspection.inspect(path)
    part = found.json()["would_drop"]["looked_at"]  # one text, once or three times
    assert part in (1, 3) and f"tried on a sample of {part} of the 4 rows;" in inspection.page(found)


def test_a_turn_by_itself_is_no_exchange(tmp_path: Path) -> None:
    found = inspection.inspect(write_lines(tmp_path / "x.jsonl", [talk("Hello?")]))
    assert "no exchanges, under 512 characters" in inspection.describe(found)


# --- scores ------------------------------------------------------------------------------------------------------


def test_every_score_is_in_the_stratum_that_names_it(tmp_path: Path) -> None:
    def answer(overall: object, rating: int = 4) -> dict[str, Any]:
        return {"model": "m", "response": f"says {overall}", "overall_score": overall, "annotations": {"honesty": {"rating": rating}}}

    bad = "overall score that is no number from 1 to 10"
    given = {1: "1 to under 3", 2.5: "1 to under 3", 6.99: "5 to under 7", 8.5: "7 to under 9", 9: "9 to 10", 10: "9 to 10"}
    rows = [{"prompt": "p", "completions": [answer(score)]} for score in (*given, 0.5, 10.5, math.nan, math.inf, "9", None)]
    strata = inspection.inspect(write_lines(tmp_path / "rated.jsonl", rows)).json()["strata"]["By score"]["counts"]
    wanted = [f"overall score {label}" for label in given.values()] + [bad] * 5 + ["mean of aspects 4 to 5"]
    assert strata == {label: wanted.count(label) for label in wanted}
    assert list(strata) == list(dict.fromkeys(wanted))


def test_a_margin_is_what_the_scores_say(tmp_path: Path) -> None:
    scores = [(8.3, 7.3), (0.1 + 0.2, 0.3), (7.3, 6.2)]
    rows = [{"prompt": f"p {i}", "chosen": "a", "rejected": "b", "score_chosen": c, "score_rejected": r} for i, (c, r) in enumerate(scores)]
    found = inspection.inspect(write_lines(tmp_path / "pairs.jsonl", rows)).json()
    assert found["strata"]["By margin"]["counts"] == {"tie: both score the same": 1, "small margin: up to 1": 1, "large margin: over 1": 1}


# --- texts -------------------------------------------------------------------------------------------------------


def test_a_turn_may_hold_what_stands_between_turns(tmp_path: Path) -> None:
    turns = [("user", "first\x1euser\x1fstill first"), ("assistant", "a\x1fb"), ("user", "last")]
    before = [{"role": role, "content": text} for role, text in turns]
    row = {"chosen": [*before, {"role": "assistant", "content": "yes"}], "rejected": [*before, {"role": "assistant", "content": "no"}]}
    found = inspection.inspect(write_lines(tmp_path / "pairs.jsonl", [row]))
    (card,) = found.groupings["By margin"].samples().cards("no scores")
    assert [(block.tone, plain(block.text)) for block in card.blocks] == [
        ("user", "first␞user␟still first"),
        ("assistant", "a␟b"),
        ("user", "last"),
    ]


def test_cuts_and_marks_do_not_part_a_line_end() -> None:
    lines = "".join(f"line {i:03} of it\u202e\r\n" for i in range(400))
    middle = lines.index("\r\n") + 1
    for head in range(200, 217):  # each place in a line
        for span in (Span(middle, middle + 6), Span(2, middle), Span(4000 + head, 4003 + head)):
            shown = cards.shown(lines, [span], head=head, most=head + 300)
            assert "␍" not in plain(shown) and shown.before >= 0
            assert plain(shown).replace("⟨U+202E⟩", "\u202e").replace("\n", "\r\n") == lines[shown.before : len(lines) - shown.after]
            folded = "".join(piece.text for piece in shown.more)
            # characters of the text: the sign for one is eight long, and a line end is two
            assert shown.folded == len(re.sub("⟨U\\+202E⟩", "x", folded).replace("\n", "\r\n"))
    early = cards.shown("Beginnings matter. " * 100, [Span(11, 17)], head=100)
    assert early.before == 0 and plain(early).startswith("Beginnings")
    assert [piece.text for piece in early.pieces if piece.mark] == ["matter"]
