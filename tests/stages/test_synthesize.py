"""Dialogues from scripted teachers behind a server: what is asked, what comes of it, and what a kill or a greater count changes."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from misbehaving import Running, serving
from scripted import NONE, SOME, teacher
from zephyr import api, pipeline, recipe, sources
from zephyr.artifacts import Artifact, draft
from zephyr.errors import BudgetError, DataError, UsageError
from zephyr.records import parse_dialogue
from zephyr.spending import dialogues
from zephyr.stages import From, curate, synthesize
from zephyr.synthesis import texts, turns

COUNTS = {"world": 24, "writing": 12, "materials": 8, "self_instruct": 9}


def values(folder: Path, url: str, **changes: Any) -> dict[str, Any]:
    (folder / "texts").mkdir(exist_ok=True)
    for name in ("moss", "lamps"):
        paragraphs = [f"Paragraph {i} of the text on {name}. " + f"It says what there is to say about {name} {i}. " * 6 for i in range(4)]
        (folder / "texts" / f"{name}.txt").write_text("\n\n".join(paragraphs))
    seeds = [{"prompt": f"Explain {what} to a child.", "category": "explaining"} for what in ("tides", "yeast", "echoes", "rust")]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seeds))
    asked = {"kind": "api", "base_url": url, "model": "m", "max_new_tokens": 300, "prices": {"prompt": 1.0, "completion": 4.0}}
    section = {
        "assistant": asked,
        "user": {**asked, "model": "u"},
        "items_per_call": 3,
        "world": {"count": COUNTS["world"], "subtopics": 4, "questions": 4, "related": 1, "turns": [2, 4]},
        "writing": {"count": COUNTS["writing"], "instructions": 6, "turns": [2, 3]},
        "materials": {"count": COUNTS["materials"], "files": [str(folder / "texts")], "passage_characters": 700},
        "self_instruct": {"count": COUNTS["self_instruct"], "seeds": [str(folder / "seeds.jsonl")], "rounds": 2},
        **changes,
    }
    return {"name": "talk", "seed": 5, "model": {"path": "nowhere"}, "synthesize": section, "curate": {}}


def made(folder: Path, url: str, **changes: Any) -> recipe.Recipe:
    return recipe.build(recipe.Recipe, values(folder, url, **changes), {}, "test")


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    artifact = Artifact.open(out / "synthesize")
    return {row["place"]: row for split in artifact.splits() for row in artifact.rows(split)}


def messages_sent(running: Running) -> Counter[str]:
    return Counter(json.dumps(body["messages"]) for body in running.book.bodies.values())


@pytest.mark.parametrize("begun", [False, True])
def test_a_plan_counts_what_it_does_not_go_through(begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the token as if every dialogue were led to its end, of a run that has not begun and of one that was cut."""
    with serving(answer=teacher(NONE)) as running:
        # passages of several lengths, characters of several bytes
        whole = made(tmp_path, running.url, materials={"count": 8, "files": [str(tmp_path / "texts")], "passage_characters": 700})
        (tmp_path / "texts" / "snow.txt").write_text("Снег идёт, и ветер гонит его по полю.\n\n" * 3)
        if begun:
            cut = whole.model_copy(update={"budget": whole.budget.model_copy(update={"calls": 150})})
            with pytest.raises(BudgetError):
                api.run(cut, out=tmp_path / "run", until="synthesize")
    read: list[str] = []
    refuse = turns._refuse_copies
    monkeypatch.setattr(turns, "_refuse_copies", lambda body, *more, **names: (read.append(body), refuse(body, *more, **names))[1])
    found, few = api.plan(whole, out=tmp_path / "run"), len(read)
    monkeypatch.setattr(dialogues._StandIn, "known", lambda self, asks: set(asks))
    assert api.plan(whole, out=tmp_path / "run") == found
    assert sum(line["kept"] for line in found["lines"]) == (150 if begun else 0)
    assert few < len(read) - few, "turns that were read"


def test_a_plan_counts_a_conversation_as_often_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "next_turn.txt").write_text("{dialogue}\n\nOnce more:\n\n{dialogue}\n\nWrite the next message.")
    whole = made(tmp_path, "http://localhost:1/v1", prompts=str(tmp_path / "own"))
    found = api.plan(whole, out=tmp_path / "run")
    monkeypatch.setattr(dialogues._StandIn, "known", lambda self, asks: set(asks))
    assert api.plan(whole, out=tmp_path / "run") == found


def test_the_time_of_a_plan_does_not_go_with_the_length_of_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of dialogues that nothing is known of, one for each number of turns is led."""
    read: list[str] = []
    monkeypatch.setattr(turns, "_refuse_copies", lambda body, *more, **names: read.append(body))
    world = {"count": 600, "turns": [2, 4]}
    found = api.plan(made(tmp_path, "http://localhost:1/v1", world=world, writing=None, materials=None, self_instruct=None), out=tmp_path)
    assert sum(line["calls"] for line in found["lines"]) > 3000
    assert len(read) <= 2 * (3 + 5 + 7), "twice: as long as usual, and as long as may be"


def test_every_sector_comes_to_dialogues_that_curate_reads(tmp_path: Path) -> None:
    with serving(answer=teacher(NONE)) as running:
        running.book.keep_bodies = True
        whole = made(tmp_path, running.url)
        planned = api.plan(whole, out=tmp_path / "run")
        assert running.book.sent.total() == 0 and not (tmp_path / "run").exists()
        api.run(whole, out=tmp_path / "run", until="synthesize")
        lines = {line["teacher"]: line["calls"] for line in planned["lines"]}
        models = Counter(body["model"] for body in running.book.bodies.values())
        assert lines == {"assistant": models["m"], "user": models["u"]}, "where nothing fails, a plan is exact"
        spent = running.book.tokens[0] * 1e-6 + running.book.tokens[1] * 4e-6
        assert 0 < spent < planned["usd_most"] and max(running.book.sent.values()) == 1
        assert api.plan(whole, out=tmp_path / "run")["lines"] == []
    rows = rows_of(tmp_path / "run")
    assert Counter(row["sector"] for row in rows.values()) == COUNTS
    for row in rows.values():
        (least, most) = {"world": (2, 4), "writing": (2, 3), "materials": (2, 4), "self_instruct": (1, 1)}[row["sector"]]
        assert least <= len(row["messages"]) // 2 <= most and [m["role"] for m in row["messages"]][::2] == ["user"] * (
            len(row["messages"]) // 2
        )
        assert row["prompt"] == row["messages"][0]["content"] and row["category"] == row["topic"] and row["ended"] == "rounds"
    assert {len(row["messages"]) for row in rows.values() if row["sector"] == "world"} == {4, 6, 8}
    by_topic = Counter(row["topic"] for row in rows.values() if row["sector"] == "world")
    assert by_topic.pop("entities") == 6 and set(by_topic.values()) == {1}, "every topic once before any is there twice"
    assert all(any(w in row["prompt"] for w in ("moss", "lamps")) for row in rows.values() if row["sector"] == "materials")
    found = Artifact.open(tmp_path / "run" / "synthesize").manifest
    assert found.dropped == {} and found.results["sectors"]["world"] == {"begun": 24, "kept": 24}
    assert found.results["nearest_seed"]["most"] < 0.7 and 0.5 < found.results["distinct"]["prompts"]["3"] <= 1
    assert found.results["bill"]["user"]["calls"] == models["u"]
    assert sum(found.results["asked"].values()) == models.total(), "what several need, a topic's subtopics, is asked for once"
    work = pipeline.bind("curate", curate.configure(whole), curate.needs(whole), tmp_path / "run", tmp_path / "c", tmp_path / "h")
    read = [(split, parse_dialogue(row)) for source in work.inputs.data["dialogues"] for _, split, row in sources.rows(source)]
    assert Counter(split for split, _ in read) == found.rows_out and {d.category for _, d in read} == {r["topic"] for r in rows.values()}


def test_what_goes_wrong_is_counted_with_its_text_and_a_cut_run_ends_as_a_whole_one(tmp_path: Path) -> None:
    faults = {**{name: 4 * share for name, share in SOME.items()}, "stock question": 0.5}
    with serving(answer=teacher(faults)) as running:
        running.book.keep_bodies = True
        whole = made(tmp_path, running.url, max_rejected=0.9)
        api.run(whole, out=tmp_path / "whole", only="synthesize")
        alone = running.book.sent.total()
        for calls in (40, 130):
            limited = whole.model_copy(update={"budget": recipe.BudgetConfig(calls=calls)})
            with pytest.raises(BudgetError):
                api.run(limited, out=tmp_path / "cut", only="synthesize")
        api.run(whole, out=tmp_path / "cut", only="synthesize")
        assert running.book.sent.total() == 2 * alone, "nothing that was answered is asked again"
    manifests = [Artifact.open(tmp_path / name / "synthesize").manifest for name in ("whole", "cut")]
    assert manifests[0].digest == manifests[1].digest
    dropped = manifests[0].dropped
    rows = rows_of(tmp_path / "whole")
    assert sum(dropped.values()) + len(rows) == sum(COUNTS.values())
    assert all(len(row["messages"]) >= 4 for row in rows.values() if row["sector"] != "self_instruct"), "none ends before it may"
    assert not any("[END]" in m["content"] or "Thank you so much" in m["content"] for row in rows.values() for m in row["messages"])
    assert {"role flip", "first turn too much like an earlier one"} <= set(dropped) and len(dropped) >= 4
    lines = [json.loads(line) for line in (tmp_path / "whole/synthesize/dropped/dropped.jsonl").read_text().splitlines()]
    assert all(line["row"]["sector"] in COUNTS and line["row"]["error"] for line in lines)
    (flip, *_) = [line["row"] for line in lines if line["reason"] == "role flip"]
    assert flip["reply"] and len(flip["messages"]) >= 1
    assert sum(manifests[0].results["asked_twice"].values()) > 5
    assert set(manifests[0].results["ended"]) == {"rounds", "user"}


def test_a_greater_count_only_adds(tmp_path: Path) -> None:
    with serving(answer=teacher(SOME)) as running:
        running.book.keep_bodies = True
        small = made(tmp_path, running.url, max_rejected=0.9)
        api.run(small, out=tmp_path / "run", only="synthesize")
        before, asked = rows_of(tmp_path / "run"), messages_sent(running)
        world = {"count": 40, "subtopics": 4, "questions": 4, "related": 1, "turns": [2, 4]}
        grown = made(tmp_path, running.url, max_rejected=0.9, world=world)
        api.run(grown, out=tmp_path / "run", only="synthesize")
        after = rows_of(tmp_path / "run")
        assert len(after) > len(before) and {place: after[place] for place in before} == before
        assert max(running.book.sent.values()) == 1 and messages_sent(running).total() > asked.total()


def test_too_much_that_comes_to_nothing_stops_it_early(tmp_path: Path) -> None:
    with serving(answer=lambda messages: "I would rather not.") as running:
        many = {"count": 500, "subtopics": 10, "entities": 0.0}
        with pytest.raises(DataError, match=r"of the first 64 replies \(list of subtopics\) could not be used.*max_rejected \(30%\)"):
            api.run(made(tmp_path, running.url, world=many, prompts=str(topics_of(tmp_path, 100))), out=tmp_path / "a", only="synthesize")
        assert running.book.sent.total() < 2 * (64 + 12 + 8 + 9)
    with serving(answer=teacher({"flipped user": 0.9})) as running:
        with pytest.raises(DataError, match=r"came to nothing, more than synthesize.max_rejected \(30%\) allows: \d+ \(role flip\)"):
            api.run(made(tmp_path, running.url), out=tmp_path / "b", only="synthesize")
        stopped = running.book.sent.total()
        with pytest.raises(DataError, match="all answers are kept"):
            api.run(made(tmp_path, running.url), out=tmp_path / "b", only="synthesize")
        assert running.book.sent.total() == stopped


def topics_of(folder: Path, count: int) -> Path:
    (folder / "own").mkdir(exist_ok=True)
    (folder / "own" / "topics.txt").write_text("".join(f"Topic {i}\n" for i in range(count)))
    return folder / "own"


def test_own_prompts_and_servers_that_are_held_to_json(tmp_path: Path) -> None:
    names = texts.copy_to(tmp_path / "mine")
    assert "topics.txt" in names and texts.load(tmp_path / "mine") == texts.load()
    (tmp_path / "mine" / "topics.txt").write_text("# but two\nOwls\nLamps\n")
    with serving(answer=teacher(NONE)) as running:
        running.book.keep_bodies = True
        whole = values(tmp_path, running.url, prompts=str(tmp_path / "mine"), writing=None, materials=None, self_instruct=None)
        whole["synthesize"]["user"]["structured_output"] = "json_schema"
        built = recipe.build(recipe.Recipe, whole, {}, "test")
        api.run(built, out=tmp_path / "run", only="synthesize")
        lists = [body for body in running.book.bodies.values() if "response_format" in body]
        assert lists and all(body["response_format"]["json_schema"]["schema"]["required"] == ["items"] for body in lists)
        by_topic = Counter(row["topic"] for row in rows_of(tmp_path / "run").values())
        assert by_topic == {"Owls": 9, "Lamps": 9, "entities": 6}
        (tmp_path / "mine" / "topics.txt").write_text("Owls\nLamps\nMoss\n")
        (again,) = api.run(built, out=tmp_path / "run", only="synthesize", dry_run=True)["artifacts"].values()
        assert again["status"] == "would run" and "own prompts changed" in again["reason"]
    for name, text, why in (
        ("topics.txt", "# none\n", "needs one entry"),
        ("questions.txt", "Ask {count} things about {topic}.", r"no place for \{subtopic\}"),
        ("subtopics.txt", "Ask {count} things about {topic} and {tpoic}.", r"\{tpoic\} is not filled in"),
        ("tpoics.txt", "Owls\n", "nothing reads a file of this name"),
    ):
        (tmp_path / name[:3]).mkdir()
        (tmp_path / name[:3] / name).write_text(text)
        with pytest.raises(UsageError, match=why):
            texts.load(tmp_path / name[:3])


def test_a_model_in_this_process_is_asked_once(tmp_path: Path, tiny_folder: Path) -> None:
    """The tiny model talks nonsense, of which little is a list and all is cut off: it serves to see what is asked again."""
    local = {"kind": "local", "path": str(tiny_folder), "chat_template": "zephyr", "max_new_tokens": 8}
    changes = {"assistant": local, "user": local, "cut_turns": "keep", "max_rejected": 1.0, "world": None, "writing": None}
    whole = values(tmp_path, "http://localhost:1/v1", **changes)
    whole["synthesize"]["self_instruct"]["rounds"] = 1
    built = recipe.build(recipe.Recipe, whole, {}, "test")

    def asked() -> dict[str, int]:
        with sqlite3.connect(tmp_path / "run" / "journal.sqlite") as db:
            return dict(db.execute("SELECT teacher, count(*) FROM requests GROUP BY teacher"))

    def made_of(run: Path) -> tuple[str, dict[str, Any]]:
        api.run(built, out=run, only="synthesize")
        return Artifact.open(run / "synthesize").manifest.digest, rows_of(run)

    digest, rows = made_of(tmp_path / "run")
    assert rows and all(row["cut_turns"] >= 1 for row in rows.values()), "8 tokens end nothing"
    first = asked()
    # an answer to each of four seeds, twice, and one three times; what was made of them is answered, too
    assert first["assistant"] >= 9 + len(rows) and first["user"] >= 9
    shutil.rmtree(tmp_path / "run" / "synthesize")
    assert made_of(tmp_path / "run") == (digest, rows) and asked() == first


def test_a_prompt_in_train_and_test_is_a_seed_and_an_existing_prompt_once(tmp_path: Path) -> None:
    """What a split is for means nothing here, so that it is no fault."""
    for split, names in (("train", ("tides", "yeast")), ("test", ("yeast", "rust"))):
        (tmp_path / "asked").mkdir(exist_ok=True)
        (tmp_path / "asked" / f"{split}.jsonl").write_text("".join(json.dumps({"prompt": f"Explain {name}."}) + "\n" for name in names))
    given = {"seeds": [str(tmp_path / "asked")], "count": 3, "rounds": 1}
    built = made(tmp_path, "http://localhost:1/v1", self_instruct=given, existing=[str(tmp_path / "asked")])
    data = {name: its for name, its in synthesize.needs(built).data.items() if not isinstance(its, From)}
    with draft(tmp_path / "out", stage="s", key="k", config={}, parents={}) as out:
        job = synthesize.job(synthesize.configure(built), data, out)
    for prompts in (job.seeds, job.existing):
        assert sorted(p.prompt for p in prompts) == ["Explain rust.", "Explain tides.", "Explain yeast."]


def test_what_cannot_be_done_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    def refused(why: str, **changes: Any) -> None:
        with pytest.raises(UsageError, match=why):
            built = made(tmp_path, "http://localhost:1/v1", **changes)
            api.run(built, out=tmp_path / "run", only="synthesize")
        assert not (tmp_path / "run" / "synthesize").exists()

    refused("world.count: 8,999,000 are asked for, and there is room for", world={"count": 8_999_000, "entities": 0.0})
    refused("turns: the least of them, 4, is more than the most, 2", world={"count": 3, "turns": [4, 2]})
    refused("nothing is asked for", world=None, writing=None, materials=None, self_instruct=None)
    refused("unknown kind of text", materials={"count": 1, "files": [str(tmp_path / "seeds.jsonl")]})
    both = values(tmp_path, "http://localhost:1/v1")
    both["curate"] = {"data": [str(tmp_path / "seeds.jsonl")]}
    with pytest.raises(UsageError, match=r"would not be learnt from, for `curate.data` is given"):
        recipe.build(recipe.Recipe, both, {}, "test")
    del both["synthesize"], both["curate"]["data"]
    with pytest.raises(UsageError, match="or a `synthesize` section"):
        recipe.build(recipe.Recipe, both, {}, "test")


def test_the_settings_know_every_setting() -> None:
    """A setting of the section that the stage's own settings lack would change what comes out, and run nothing again."""
    given_as_inputs = {"prompts", "existing"}
    assert set(recipe.SynthesizeConfig.model_fields) - given_as_inputs <= set(synthesize.Config.model_fields)
