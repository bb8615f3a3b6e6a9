"""The stage around the policy: order and shards, caps, benchmarks, and what its rows are read by."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import small
from zephyr import sources
from zephyr.api import stage
from zephyr.artifacts import Artifact, draft
from zephyr.errors import DataError
from zephyr.recipe import BinarizeConfig, DataSource
from zephyr.records import ASPECTS, parse_preference, prompt_id_of
from zephyr.stages import Inputs, binarize

PUBLIC = ["prompt", "prompt_id", "chosen", "rejected", "messages", "score_chosen", "score_rejected"]


@pytest.fixture(autouse=True)
def _cache(own_cache: Path) -> None:
    """Hashes of inputs go to a cache of the test's own."""


def rows(n: int, seed: int = 3) -> list[dict[str, Any]]:
    """Prompts of three sources, four answers each; aspects are missing here and there, ties and equal texts are common."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        completions = [
            {
                "model": f"m{m}",
                "principle": "honesty",
                "response": rng.choice(["Yes.", f"answer {m}", f"another {m}"]),
                "overall_score": rng.randint(1, 10),
                "critique": "",
                "annotations": {a: {"rating": rng.randint(1, 5), "rationale": ""} for a in ASPECTS if rng.random() < 0.8},
            }
            for m in range(4)
        ]
        prompt = f"Prompt number {i}: what would you say to that?"
        made.append({"prompt": prompt, "prompt_id": prompt_id_of(prompt), "source": "abc"[i % 3], "completions": completions})
    return made


def run(folder: Path, given: list[dict[str, Any]], *settings: str) -> Artifact:
    file = small.write_lines(folder / "rows.jsonl", given)
    stage("binarize", "binarize", {"ratings": [str(file)]}, folder / "out", settings=list(settings), seed=5)
    return Artifact.open(folder / "out")


def by_prompt(artifact: Artifact) -> dict[str, dict[str, Any]]:
    return {row["prompt"]: {**row, "split": split} for split in artifact.splits() for row in artifact.rows(split)}


# --- order, shards ---------------------------------------------------------------------------------------------

POLICIES = {
    "the paper's": [],
    "nearest": ["score=overall", "rejected=nearest", "ties=second"],
    "by margin": ["score=weighted", "weights={helpfulness: 0.3, honesty: 0.1}", "rejected=margin_weighted", "ties=keep"],
    "lowest": ["rejected=lowest", "min_margin=1"],
}


@pytest.mark.parametrize("name", POLICIES)
def test_the_order_of_rows_and_their_division_do_not_matter(tmp_path: Path, name: str) -> None:
    given, policy = rows(90), POLICIES[name]
    whole = by_prompt(run(tmp_path / "whole", given, *policy))
    assert len(whole) > 60
    mixed = list(given)
    random.Random(1).shuffle(mixed)
    assert by_prompt(run(tmp_path / "mixed", mixed, *policy)) == whole
    shards = [by_prompt(run(tmp_path / str(i), given[i * 30 : i * 30 + 30], *policy)) for i in range(3)]
    assert {**shards[0], **shards[1], **shards[2]} == whole


def test_a_cap_keeps_the_same_pairs_in_any_order_and_more_where_it_is_larger(tmp_path: Path) -> None:
    given = rows(90)
    free = by_prompt(run(tmp_path / "free", given))
    train = {p for p, row in free.items() if row["split"] == "train"}
    test = set(free) - train
    assert test
    kept = []
    for cap in (20, 5):
        artifact = run(tmp_path / str(cap), given, f"max_per_source={cap}")
        found = by_prompt(artifact)
        assert {p for p, row in found.items() if row["split"] == "test"} == test, "what is measured stays"
        kept.append({p for p, row in found.items() if row["split"] == "train"})
        by_source = [sum(found[p]["source"] == s for p in kept[-1]) for s in "abc"]
        there = [sum(free[p]["source"] == s for p in train) for s in "abc"]
        assert by_source == [min(cap, n) for n in there]
        for source, n in zip("abc", there, strict=True):
            assert artifact.manifest.dropped.get(f"more than max_per_source, {cap} of {source}", 0) == max(0, n - cap)
        manifest = artifact.manifest
        assert manifest.rows_in == 90 == sum(manifest.rows_out.values()) + sum(manifest.dropped.values())
        assert all(found[p] == free[p] for p in found), "a cap changes no pair"
    assert train >= kept[0] > kept[1]
    turned = run(tmp_path / "turned", given[::-1], "max_per_source=5")
    assert {p for p, row in by_prompt(turned).items() if row["split"] == "train"} == kept[1]


def test_a_cap_for_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    artifact = run(tmp_path, rows(12), "max_per_source={a: 2, flann: 3}")
    assert "binarize.max_per_source names flann, and no row has it as its `source`: they have ['a', 'b', 'c']." in artifact.manifest.notes
    assert artifact.manifest.results["by_source"]["a"] <= 2 + artifact.manifest.rows_out["test"]


def test_answers_that_lack_a_weighted_aspect_are_counted(tmp_path: Path) -> None:
    given = rows(30)
    weights = {"helpfulness", "honesty"}
    lack = sum(0 < len(weights & set(c["annotations"])) < 2 for row in given for c in row["completions"])
    assert lack > 5
    artifact = run(tmp_path, given, "score=weighted", "weights={helpfulness: 2, honesty: 1}")
    assert f"{lack} answers lack some of the weighted aspects and were ranked by the others." in artifact.manifest.notes


def test_the_results_count_what_the_pairs_are(tmp_path: Path) -> None:
    artifact = run(tmp_path, rows(60), "score=overall", "ties=keep")
    pairs = list(by_prompt(artifact).values())
    results = artifact.manifest.results
    assert results["equal_scores"] == sum(p["score_chosen"] == p["score_rejected"] for p in pairs) > 0
    assert results["rejected_ranks"] == {str(r): sum(p["rejected_rank"] == r for p in pairs) for r in (1, 2, 3, 4)}
    assert results["by_source"] == {s: sum(p["source"] == s for p in pairs) for s in "abc"}
    assert results["without_scores"] == 0


# --- benchmarks ------------------------------------------------------------------------------------------------


def made_against(folder: Path, given: list[dict[str, Any]], **against: list[dict[str, Any]]) -> Artifact:
    """The artifact of a run with benchmarks by name."""
    data = {"ratings": [DataSource(path=str(small.write_lines(folder / "rows.jsonl", given)), split="train")]}
    for name, lines in against.items():
        data[f"against {name}"] = [DataSource(path=str(small.write_lines(folder / f"{name}.jsonl", lines)))]
    config = binarize.Config(seed=0, test_fraction=0.0, invalid="error")
    with draft(folder / "out", stage="binarize", key="k", config={}, parents={}) as out:
        binarize.run(config, Inputs(data, {}), out)
    return Artifact.open(folder / "out")


LONG = "A farmer has seventeen sheep and sells all but nine of them at the market on a Tuesday morning, so how many are left?"


def test_prompts_of_a_benchmark_are_dropped_and_counted_by_benchmark_and_kind(tmp_path: Path) -> None:
    fruitful = by_prompt(run(tmp_path / "free", rows(40)))
    given = [row for row in rows(40) if row["prompt"] in fruitful][:8]
    given[1] = {**given[1], "prompt": given[1]["prompt"].upper(), "prompt_id": "x1"}
    given[2] = {**given[2], "prompt": f"Think hard. {LONG} Give one number.", "prompt_id": "x2"}
    mt_bench = [{"question_id": 1, "turns": [given[0]["prompt"], "And why?"]}, {"question_id": 2, "turns": [LONG]}]
    alpaca = [{"prompt": given[1]["prompt"].lower()}, {"prompt": "Nobody asked this."}]
    artifact = made_against(tmp_path, given, mt_bench=mt_bench, alpaca=alpaca)
    assert artifact.manifest.dropped == {
        "prompt found in mt_bench (exact)": 1,
        "prompt found in mt_bench (ngram)": 1,
        "prompt found in alpaca (normalised)": 1,
    }
    assert [row["prompt"] for row in artifact.rows("train")] == [row["prompt"] for row in given[3:]]


def test_benchmarks_are_inputs_unless_the_recipe_says_otherwise() -> None:
    def inputs(*, decontaminate: bool) -> list[str]:
        section = BinarizeConfig(data=[DataSource(path="r.jsonl")], decontaminate=decontaminate)
        recipe: Any = SimpleNamespace(binarize=section, benchmarks={"mt_bench": DataSource(path="q.jsonl")})
        return list(binarize.needs(recipe).data)

    assert inputs(decontaminate=True) == ["ratings", "against mt_bench"]
    assert inputs(decontaminate=False) == ["ratings"]


def test_every_turn_of_a_ready_made_pair_is_looked_at(tmp_path: Path) -> None:
    before = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": LONG}]
    asked = {"prompt": before, "chosen": [{"role": "assistant", "content": "9"}], "rejected": [{"role": "assistant", "content": "8"}]}
    said = {"prompt": "What did you say?", "chosen": LONG, "rejected": "Nothing."}
    artifact = made_against(tmp_path, [asked, said], bench=[{"prompt": LONG}])
    assert artifact.manifest.dropped == {"prompt found in bench (exact)": 1}
    assert [row["prompt"] for row in artifact.rows("train")] == ["What did you say?"], "an answer is no prompt"


def test_nothing_but_prompts_of_a_benchmark_is_an_error_that_says_so(tmp_path: Path) -> None:
    given = rows(1)
    with pytest.raises(DataError, match=r"no pair is left; dropped were 1 \(prompt found in bench \(exact\)\)"):
        made_against(tmp_path, given, bench=[{"prompt": given[0]["prompt"]}])


# --- who reads it ------------------------------------------------------------------------------------------------


def test_datasets_reads_the_pairs_with_the_public_columns_first(tmp_path: Path) -> None:
    import datasets

    artifact = run(tmp_path, rows(40))
    files = {split: str(artifact.path / "data" / f"{split}-*.parquet") for split in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].column_names[:7] == PUBLIC
    assert list(loaded["train"]) == artifact.rows("train")
    assert set(loaded["train"].column_names[9:]) == {
        *(f"{which}_{name}" for which in ("chosen", "rejected") for name in ("model", "principle", "ratings", "position")),
        "rejected_rank",
        "answer_count",
    }


def test_what_is_unknown_is_null(tmp_path: Path) -> None:
    artifact = run(tmp_path, [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(3)], "test_fraction=0.0")
    for row in artifact.rows("train"):
        assert set(list(row.values())[9:]) == {None}
        assert (row["score_chosen"], row["score_rejected"]) == (None, None)
    assert artifact.manifest.results["without_scores"] == 3


def test_pairs_go_through_again_unchanged(tmp_path: Path) -> None:
    first = run(tmp_path / "1", rows(40))
    stage("binarize", "binarize", {"ratings": [str(first.path)]}, tmp_path / "2" / "out")
    assert by_prompt(Artifact.open(tmp_path / "2" / "out")) == by_prompt(first)


def test_pairs_written_before_there_was_more_lineage_are_read(tmp_path: Path) -> None:
    """As version 2 of the stage wrote them, `source` and `category` last and "" for a model that is not known."""
    new = run(tmp_path, rows(20)).rows("train")
    old = [
        {**{name: row[name] for name in PUBLIC}, "chosen_model": "", "rejected_model": "m1", "source": "a", "category": ""} for row in new
    ]
    file = tmp_path / "old.parquet"
    pq.write_table(pa.Table.from_pylist(old), file)
    with draft(tmp_path / "read", stage="s", key="k", config={}, parents={}) as out:
        found = sources.collect([DataSource(path=str(file))], parse_preference, out, invalid="error", test_fraction=0.0)
    pairs = [item.record for item in found["train"]]
    assert [p.pair_id for p in pairs] == [parse_preference(row).pair_id for row in new]
    assert {(p.chosen_from.model, p.rejected_from.model, p.rejected_rank) for p in pairs} == {("", "m1", None)}
