"""Chat benchmarks: what models are asked in which order, what a judge is shown, and what comes out in the originals' files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import small
from zephyr import api
from zephyr.artifacts import Manifest, draft
from zephyr.cli import app
from zephyr.errors import DataError, UsageError
from zephyr.evals import alpaca_eval, in_words, mt_bench
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.recipe import load
from zephyr.stages import Inputs, answer
from zephyr.stages import judge as stage
from zephyr.teachers import Reply, Request, ask

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a line about rain.", "Now make it shorter."]},
    {"question_id": 101, "category": "reasoning", "turns": ["Who is second after overtaking the second?", "And the last?"]},
]
REFERENCES = [
    {
        "question_id": 101,
        "answer_id": "r",
        "model_id": "oracle",
        "choices": [{"index": 0, "turns": ["You are.", "That cannot be."]}],
        "tstamp": 0,
    }
]
BASELINE = [{"instruction": f"Say {n}.", "output": n, "generator": "plain", "dataset": "d"} for n in ("one", "two", "three")]


class Scripted:
    """Models that say who they are and what they were asked, and a judge that looks for the words `base at`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Request]] = []
        self.judge = self.verdict
        self.ends = "stop"
        self.served: Callable[[Request], str] = lambda request: ""

    def replies(self, requests: Mapping[str, Sequence[Request]]) -> Iterator[tuple[str, Reply]]:
        for name, theirs in requests.items():
            for request in reversed(theirs):  # in whatever order they get done
                self.asked.append((name, request))
                text = (
                    self.judge(request) if name == "judge" else f"{name} at {request.temperature} to turn {len(request.messages) // 2 + 1}"
                )
                ends, served = (self.ends, self.served(request)) if name == "judge" else ("stop", "")
                yield name, Reply(request, text, ends, 7, served=served)

    @staticmethod
    def verdict(request: Request) -> str:
        shown = request.messages[-1]["content"]
        if request.prompt_id.startswith("mt-bench"):
            return "It says little.\n[[1]]" if "Both answers were compared with care" in shown else "Good.\n[[8]]"
        first, second = shown.index("[answer A"), shown.index("[answer B")
        at = shown.find("base at")
        return "Well.\n[[C]]" if at < 0 else "Well.\n[[A]]" if first < at < second else "Well.\n[[B]]"

    def status(self, left: int) -> str:
        return ""

    def bill(self) -> dict[str, Any]:
        return {}


def even(request: Request) -> str:
    """The same, but of MT-Bench's pairs a draw."""
    return "Even.\n[[C]]" if "beside" in request.subject else Scripted.verdict(request)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Scripted:
    import contextlib

    teachers = Scripted()

    @contextlib.contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[Scripted]:
        yield teachers

    monkeypatch.setattr(ask, "opened", opened)
    return teachers


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    files = {"q": QUESTIONS, "r": REFERENCES, "b": BASELINE}
    paths = {name: str(small.write_lines(tmp_path / f"{name}.jsonl", rows)) for name, rows in files.items()}
    model = small.model_folder(tmp_path / "model")
    judge = {
        "teacher": {"kind": "api", "base_url": "http://localhost:1/v1", "model": "judge-1", "key_env": "SOME_KEY"},
        "mt_bench": {"questions": paths["q"], "references": paths["r"]},
        "alpaca_eval": {"baseline": paths["b"]},
    }
    return small.write_recipe(
        tmp_path / "recipe.yaml", {"name": "j", "model": {"path": str(model)}, "train": {"dtype": "float32"}, "judge": judge}
    )


def run(recipe: Path, on: Sequence[str] = ("mt-bench", "alpaca-eval"), **more: Any) -> dict[str, Any]:
    return api.benchmark(str(recipe.parent / "model"), on, recipe, recipe.parent / "out", **more)


def report_of(run_dir: Path) -> str:
    api.report(run_dir, run_dir / "page")
    return (run_dir / "page" / "report.html").read_text()


def test_answers_verdicts_and_scores(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-canary-of-the-judge")
    found = run(recipe)["judged"]
    turns = [(name, request) for name, request in scripted.asked if name != "judge" and request.prompt_id.startswith("mt-bench")]
    assert {(name, request.prompt_id, request.temperature, request.max_new_tokens) for name, request in turns} == {
        ("base", "mt-bench 81", 0.7, 1024),
        ("base", "mt-bench 101", 0.0, 1024),
    }, "temperatures are by category"
    second = next(request for _, request in turns if request.prompt_id == "mt-bench 81" and len(request.messages) == 3)
    assert [m["content"] for m in second.messages] == [
        QUESTIONS[0]["turns"][0],
        "base at 0.7 to turn 1",
        QUESTIONS[0]["turns"][1],
    ]

    # base and canary, two questions of two turns: eight verdicts; three instructions in two orders for each: twelve
    judged = [request for name, request in scripted.asked if name == "judge"]
    assert len(judged) == 8 + 12
    reasoning = [r.messages[-1]["content"] for r in judged if r.prompt_id == "mt-bench 101"]
    assert all("You are." in text for text in reasoning), "reasoning is judged by a reference"

    assert found["mt_bench"]["base"]["score"] == 8.0 and found["mt_bench"]["base"]["n"] == 4
    assert found["alpaca_eval"]["base"]["win_rate"] == 100.0 and found["alpaca_eval"]["base"]["n_null"] == 0
    assert found["canary"] == {"mt_bench": 1.0, "alpaca_eval": 50.0}
    data = recipe.parent / "out" / "judge" / "data"
    rows = [json.loads(line) for line in (data / "mt_bench_judgments.jsonl").read_text().splitlines()]
    assert {(r["model"], r["judge"][0], r["score"]) for r in rows} == {("base", "judge-1", 8.0), ("canary", "judge-1", 1.0)}
    # the files are those that scoring by itself reads, to the same numbers
    assert mt_bench.score_file(data / "mt_bench_judgments.jsonl", questions=recipe.parent / "q.jsonl")["model"]["score"] == 8.0
    annotations = alpaca.read(data / "alpaca_eval.base.annotations.json")
    assert [a.preference for a in annotations] == [2.0] * 3 and annotations[0].row["annotator"] == "judge-1/zephyr-pair"
    manifest = Manifest.read(recipe.parent / "out" / "judge")
    assert manifest is not None and any(
        "alpaca-eval: an answer that is the same to every question scores 50.00 of 100" in n for n in manifest.notes
    )

    page = report_of(recipe.parent / "out")
    assert "MT-Bench" in page and "8.00" in page and "do not trust this judge" in page and "judge-1" in page

    before = len(scripted.asked)
    assert run(recipe)["judged"] == found
    assert len(scripted.asked) == before, "what is there was asked again"
    texts = [p.read_text(errors="replace") for p in (recipe.parent / "out").rglob("*") if p.is_file()]
    assert not any("sk-canary-of-the-judge" in text for text in texts)


def test_a_part_of_a_benchmark_is_said_by_a_run_as_by_its_files(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    scripted.judge = even
    found = run(recipe, limit=1, settings=[*beside(recipe, "plain"), "judge.mt_bench.single=true"])["judged"]
    data = recipe.parent / "out" / "judge" / "data"
    names = {"base": "model"}
    for what, file in (("mt_bench", "mt_bench_judgments.jsonl"), ("mt_bench_pairs", "mt_bench_pair_judgments.jsonl")):
        ours, by_hand = found[what], mt_bench.score_file(data / file)
        assert {names.get(model, model): one["n_missing"] for model, one in ours.items()} == {m: r["n_missing"] for m, r in by_hand.items()}
        missing = ours["base"]["warnings"][0]
        assert "158 " in missing and missing.replace("base: ", "model: ") in by_hand["model"]["warnings"]
    said = ["mt-bench: 158 of its turns were not judged; the number is of a part."]
    said += ["mt-bench-pairs: 158 of its pairs were not judged; the number is of a part."]
    manifest = Manifest.read(recipe.parent / "out" / "judge")
    assert manifest is not None and set(said) <= {*found["warnings"]} & {*manifest.notes} & {*in_words.judged(found)}
    assert alpaca_eval.score_file(data / "alpaca_eval.base.annotations.json")["model"] == "model"
    assert alpaca_eval.score_file(data / "alpaca_eval.base.annotations.json", model="base")["model"] == "model"
    answers = recipe.parent / "out" / "answer" / "data" / "mt_bench.base.jsonl"
    assert not any(
        "other answers" in w for w in mt_bench.score_file(data / "mt_bench_judgments.jsonl", answers=[answers])["model"]["warnings"]
    )


def test_a_judge_whose_name_became_another_model_is_seen(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verdict says which model gave it, as its server calls it; of two under one name the results, the words and the page tell."""
    monkeypatch.setenv("SOME_KEY", "k")
    scripted.judge = even
    silent = run(recipe)["judged"]
    data = recipe.parent / "out" / "judge" / "data"
    assert "served" not in silent and not any('"served"' in p.read_text() or "_served" in p.read_text() for p in data.glob("*judgments*"))
    scripted.served = lambda request: "judge-1-new" if "first" in request.subject or request.prompt_id == "mt-bench 101" else "judge-1-old"
    settings = [text for text in beside(recipe, "plain") if "against" in text]
    found = api.benchmark(str(recipe.parent / "model"), ["mt-bench", "alpaca-eval"], recipe, recipe.parent / "two", settings=settings)[
        "judged"
    ]
    data = recipe.parent / "two" / "judge" / "data"
    # base and canary: 8 turns; in two orders 16 games and 6 pairs
    assert found["served"] == {"judge-1-new": 4 + 12 + 6, "judge-1-old": 4 + 4 + 6} == {"judge-1-new": 22, "judge-1-old": 14}
    (said,) = (text for text in found["warnings"] if "several models" in text)
    assert said.startswith("the judge, judge-1, was several models") and "judge-1-new 22, judge-1-old 14" in said
    assert said in in_words.judged(found) and said in Manifest.read(recipe.parent / "two" / "judge").notes  # type: ignore[union-attr]
    singles = [json.loads(line) for line in (data / "mt_bench_judgments.jsonl").read_text().splitlines()]
    assert {(r["question_id"], r["served"]) for r in singles} == {(81, "judge-1-old"), (101, "judge-1-new")}
    games = [json.loads(line) for line in (data / "mt_bench_pair_judgments.jsonl").read_text().splitlines()]
    assert {(r["question_id"], r["g1_served"], r["g2_served"]) for r in games} == {
        (81, "judge-1-new", "judge-1-old"),
        (101, "judge-1-new", "judge-1-new"),
    }
    verdicts = [v for a in alpaca.read(data / "alpaca_eval.base.annotations.json") for v in a.row["verdicts"]]
    assert {(v["model_first"], v["served"]) for v in verdicts} == {(True, "judge-1-new"), (False, "judge-1-old")}
    page = report_of(recipe.parent / "two")
    assert "the judge, as its server calls it" in page and "judge-1-new in 22 verdicts, judge-1-old in 14 verdicts" in page
    # files scored by themselves say it too
    for name in ("mt_bench_judgments.jsonl", "mt_bench_pair_judgments.jsonl"):
        results = mt_bench.score_file(data / name, questions=recipe.parent / "q.jsonl")
        assert sum("several models" in text for one in results.values() for text in one["warnings"]) == 1, name
    assert any("several models" in text for text in alpaca_eval.score_file(data / "alpaca_eval.base.annotations.json")["warnings"])


def test_a_canary_that_does_well_is_said_with_json_too(
    scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    warning = "alpaca-eval: an answer that is the same to every question scores 50.00 of 100"
    arguments = ["evaluate", str(recipe.parent / "model"), "--on", "alpaca-eval", "--recipe", str(recipe)]
    for json_too in (True, False):
        app([*arguments, "--out", str(recipe.parent / "out"), *(["--json"] if json_too else [])], standalone_mode=False)
        out, err = capsys.readouterr()
        assert warning in out, "on stdout among the words, or in the object"
        if json_too:
            assert any(warning in text for text in json.loads(out)["judged"]["warnings"])
            assert f"note: {warning}" in err
    app(["run", str(recipe), "--until", "judge", "--out", str(recipe.parent / "run"), "--json"], standalone_mode=False)
    assert f"note: {warning}" in capsys.readouterr().err, "of a whole run too"
    data = recipe.parent / "out" / "judge" / "data"
    assert any(warning in text for text in alpaca_eval.score_file(data / "alpaca_eval.canary.annotations.json")["warnings"])
    assert not any(warning in text for text in alpaca_eval.score_file(data / "alpaca_eval.base.annotations.json")["warnings"])


def test_a_judge_that_likes_a_place_gives_draws_and_one_that_says_nothing_gives_none(
    scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    scripted.judge = lambda request: "First things first.\n[[A]]"
    found = run(recipe, on=["alpaca-eval"])["judged"]["alpaca_eval"]["base"]
    assert (found["win_rate"], found["n_draws"]) == (50.0, 3)
    order = found["order"]
    assert (order["win_rate_shown_first"], order["win_rate_shown_second"], order["consistent"]) == (100.0, 0.0, 0.0)
    file = recipe.parent / "out" / "judge" / "data" / "alpaca_eval.base.annotations.json"
    assert alpaca_eval.score_file(file)["order"] == order, "scoring the file by itself says the same of the place"
    assert "mt_bench" not in json.loads((recipe.parent / "out/judge/data/scores.json").read_text())


@pytest.mark.parametrize(("text", "ends"), [("[[A]] or [[B]]", "stop"), ("It begins.\n[[A]]", "length"), ("<think>Or\n[[A]]", "stop")])
def test_what_cannot_be_read_is_counted_and_takes_nothing_along(
    scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch, text: str, ends: str
) -> None:
    """A model without a verdict has no score; the other's, which were paid for as well, stand."""
    monkeypatch.setenv("SOME_KEY", "k")
    scripted.ends = ends
    scripted.judge = lambda request: text if "Both answers were compared with care" in request.messages[-1]["content"] else "Well.\n[[B]]"
    found = run(recipe, on=["alpaca-eval"])["judged"]["alpaca_eval"]
    assert (found["canary"]["win_rate"], found["canary"]["n_null"]) == (None, 3)
    assert found["base"]["win_rate"] == (50.0 if ends == "stop" else None)
    assert "none of" in "\n".join(in_words.judged({"judge": "j", "alpaca_eval": found}))


def test_the_plan_counts_answers_and_verdicts(recipe: Path, own_cache: Path) -> None:
    from zephyr.recipe import load as read
    from zephyr.spending import plan

    settings = ['judge.endpoints={own: {kind: api, base_url: "http://h/v1", model: m}}', "judge.models=[base]"]
    lines = plan(read(recipe, settings), recipe.parent / "run")["lines"]
    # two questions of two turns, three instructions; base, endpoint and canary; both orders
    assert {(line["stage"], line["teacher"]): line["calls"] for line in lines} == {
        ("answer", "own"): 7,
        ("judge", "judge"): 3 * (4 + 3 * 2),
    }


def test_an_endpoint_keeps_what_it_sets(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    settings = ['judge.endpoints={own: {kind: api, base_url: "http://h/v1", model: m, temperature: null, max_new_tokens: 5}}']
    run(recipe, on=["mt-bench"], settings=settings)
    asked = [request for name, request in scripted.asked if name == "own"]
    assert len(asked) == 4 and all((r.temperature, r.max_new_tokens) == (None, None) for r in asked)


def test_one_order_is_the_originals(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zephyr.evals.alpaca_eval.preferences import model_shown_first

    monkeypatch.setenv("SOME_KEY", "k")
    run(recipe, on=["alpaca-eval"], settings=["judge.alpaca_eval.order=seeded", "judge.canary=false"])
    judged = [request for name, request in scripted.asked if name == "judge"]
    assert {r.prompt_id: r.subject == "first" for r in judged} == {
        f"alpaca-eval {b['instruction']}": model_shown_first(b["instruction"]) for b in BASELINE
    }


# --- beside a baseline ------------------------------------------------------------------------------------------


def beside(recipe: Path, *models: str) -> list[str]:
    """Settings by which each answer is judged beside those of models in a file, in both orders, and not by itself."""
    rows = [
        {
            "question_id": q["question_id"],
            "model_id": m,
            "choices": [{"index": 0, "turns": [f"{m} one", f"{m} two, longer than that of base"]}],
        }
        for m in models
        for q in QUESTIONS
    ]
    file = small.write_lines(recipe.parent / "baseline.jsonl", rows)
    return [f"judge.mt_bench.against={file}", "judge.mt_bench.single=false", "judge.canary=false"]


def test_pairs_are_judged_in_both_orders(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that finds the better answer wherever it stands; the files are what scoring by itself reads, to the same numbers."""
    monkeypatch.setenv("SOME_KEY", "k")

    def finds(request: Request) -> str:
        shown = request.messages[-1]["content"]
        better = "[[A]]" if shown.index("base at") < shown.index("plain one") else "[[B]]"
        return f"So.\n{better if 'Now make it shorter.' not in shown else '[[C]]'}"

    scripted.judge = finds
    result = run(recipe, on=["mt-bench"], settings=beside(recipe, "plain"))
    asked = [request for name, request in scripted.asked if name == "judge"]
    assert len(asked) == 8, "two questions of two turns, in two orders"
    assert sum("You are." in r.messages[-1]["content"] for r in asked) == 4, "reasoning is judged by a reference"
    found = result["judged"]
    assert "mt_bench" not in found and set(found["mt_bench_pairs"]) == {"base", "plain"}
    base = found["mt_bench_pairs"]["base"]
    assert (base["wins"], base["ties"], base["losses"], base["win_rate"], base["against"]) == (3, 1, 0, 87.5, ["plain"])
    assert base["order"]["consistent"] == 100.0 and base["order"]["first_shown_wins"] == 50.0
    assert base["longer_wins"]["n"] == 3
    file = recipe.parent / "out" / "judge" / "data" / "mt_bench_pair_judgments.jsonl"
    again = mt_bench.score_file(file, questions=recipe.parent / "q.jsonl")["model"]
    assert {k: again[k] for k in ("win_rate", "ci95", "order")} == {k: base[k] for k in ("win_rate", "ci95", "order")}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {(r["model_1"], r["model_2"], r["judge"][0]) for r in rows} == {("base", "plain", "judge-1")}
    assert {r["g1_winner"] == r["g2_winner"] for r in rows} == {True}
    said = "\n".join(in_words.judged(found))
    assert "mt-bench-pairs, model against plain: 87.50%" in said and "for the answer shown first" in said
    assert "MT-Bench pairs, against plain" in report_of(recipe.parent / "out")


def test_what_the_canary_loses_is_no_win_of_the_baselines(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline loses to the model and wins against the canary: its rate and what the order did are of the games that count."""
    monkeypatch.setenv("SOME_KEY", "k")

    def verdict(request: Request) -> str:
        shown = request.messages[-1]["content"]
        plain = shown.index("plain one") < shown.index("base at" if "base at" in shown else "Both answers were compared")
        return "So.\n[[A]]" if plain != ("base at" in shown) else "So.\n[[B]]"

    scripted.judge = verdict
    found = run(recipe, on=["mt-bench"], settings=beside(recipe, "plain")[:-1])["judged"]
    rows = {m: (r["win_rate"], r["against"], r["order"]["n"], r["longer_wins"]["n"]) for m, r in found["mt_bench_pairs"].items()}
    assert rows == {"base": (100.0, ["plain"], 4, 4), "plain": (0.0, ["base"], 4, 4), "canary": (0.0, ["plain"], 4, 4)}
    assert found["canary"] == {"mt_bench_pairs": 0.0}
    file = recipe.parent / "out" / "judge" / "data" / "mt_bench_pair_judgments.jsonl"
    again = mt_bench.score_file(file, questions=recipe.parent / "q.jsonl")
    assert {m: r["win_rate"] for m, r in again.items()} == {"model" if m == "base" else m: r[0] for m, r in rows.items()}
    assert "mt-bench-pairs, plain against model: 0.00%" in "\n".join(in_words.judged(found))


def test_a_judge_that_likes_the_first_place_is_shown_to(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    scripted.judge = lambda request: "So.\n[[A]]"
    found = run(recipe, on=["mt-bench"], settings=beside(recipe, "base"))["judged"]["mt_bench_pairs"]
    order = found["base"]["order"]
    assert (found["base"]["win_rate"], order["first_shown_wins"], order["consistent"], order["first_both_times"]) == (50.0, 100.0, 0.0, 4)
    assert set(found) == {"base", "baseline-base"}, "another run's model of that name is not this one"
    run(recipe, on=["mt-bench"], settings=beside(recipe, "model"))
    by_hand = mt_bench.score_file(recipe.parent / "out" / "judge" / "data" / "mt_bench_pair_judgments.jsonl")
    assert set(by_hand) == {"base", "model"}, "a name that a baseline has is not given to another"


def test_several_models_in_a_file_are_no_choice_of_ours(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of references as of baselines: the first one would be taken without a word."""
    monkeypatch.setenv("SOME_KEY", "k")
    settings = beside(recipe, "plain", "fancy")
    with pytest.raises(
        UsageError, match=r"baseline\.jsonl: answers of several models; set judge\.mt_bench\.against_model to one of fancy, pl"
    ):
        run(recipe, on=["mt-bench"], settings=settings)
    found = run(recipe, on=["mt-bench"], settings=[*settings, "judge.mt_bench.against_model=fancy"])["judged"]
    assert set(found["mt_bench_pairs"]) == {"base", "fancy"}
    other = [{**REFERENCES[0], "model_id": "other", "choices": [{"index": 0, "turns": ["OTHER", "OTHER"]}]}]
    small.write_lines(recipe.parent / "r.jsonl", [*REFERENCES, *other])
    with pytest.raises(
        UsageError, match=r"r\.jsonl: answers of several models; set judge\.mt_bench\.reference_model to one of oracle, other"
    ):
        run(recipe, on=["mt-bench"])
    scripted.asked.clear()
    run(recipe, on=["mt-bench"], settings=["judge.mt_bench.reference_model=other"])
    assert sum("OTHER" in r.messages[-1]["content"] for name, r in scripted.asked if name == "judge") == 4


def test_a_baseline_from_another_run_and_one_that_is_not_whole(scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    run(recipe, on=["mt-bench"])
    settings = [f"judge.mt_bench.against={recipe.parent / 'out' / 'answer'}", "judge.mt_bench.single=false", "judge.canary=false"]
    scripted.judge = lambda request: "So.\n[[C]]"
    found = api.benchmark(str(recipe.parent / "model"), ["mt-bench"], recipe, recipe.parent / "two", settings=settings)["judged"]
    assert found["mt_bench_pairs"]["base"]["ties"] == 4 and "baseline-base" in found["mt_bench_pairs"]
    short = [{"question_id": 81, "model_id": "half", "turns": ["One.", "Two."]}]
    file = small.write_lines(recipe.parent / "half.jsonl", short)
    with pytest.raises(DataError, match=r"half\.jsonl: 1 of 2 questions has no answer, the first is 101"):
        run(recipe, on=["mt-bench"], settings=[f"judge.mt_bench.against={file}"])


def test_what_was_trained_on_and_whose_family_it_is_stand_beside_the_score(
    scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    rows = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}]} for text in ("Say two.", "Well?")]
    data = small.write_lines(recipe.parent / "trained.jsonl", rows)
    judge = "judge.teacher={kind: api, base_url: http://localhost:1/v1, model: openai/gpt-4-turbo, key_env: SOME_KEY}"
    other = "judge.endpoints={own: {kind: api, base_url: http://localhost:1/v1, model: gpt-3.5}}"
    found = run(recipe, on=["alpaca-eval", "mt-bench"], trained_on=[str(data)], settings=[judge, other])["judged"]
    counts = {name: (one["items"], one["found"], one["exact"]) for name, one in found["contamination"].items()}
    assert counts == {"mt_bench": (2, 0, 0), "alpaca_eval": (3, 1, 1)}
    assert found["contamination"]["alpaca_eval"]["matches"][0]["item_id"] == "Say two."
    assert any("own), gpt-3.5, are of one family (GPT)" in text for text in found["self_preference"])
    assert found["family_unknown"] == [
        f"{recipe.parent / 'model'} is of no family that is known here; whether openai/gpt-4-turbo judges its own is yours to say."
    ]
    endpoints_alone = stage.configure(load(recipe, [judge, other, "judge.models=[]"]))
    assert set(endpoints_alone.judged) == {"own"}, "who does not answer is not judged"
    # two models that were judged on the same questions: whether they can be told apart, the canary left out
    assert set(found["alpaca_eval"]["base"]["against"]) == {"own"} and "against" not in found["alpaca_eval"]["canary"]
    words = "\n".join(in_words.judged(found))
    assert "alpaca-eval: model is better" in words or "alpaca-eval: model and own" in words
    assert "mt-bench: model and own cannot be told apart: they have the same value on each of 2 questions" in words
    assert "are of one family (GPT)" in words and "is yours to say" in words and "do not trust this judge" in words
    assert "canary" not in "".join(line for line in words.splitlines() if "told apart" in line)
    assert "alpaca-eval: 1 of its 3 items are among the training prompts" in words and "mt-bench: none of its 2" in words
    page = report_of(recipe.parent / "out")
    assert "1 of 3" in page and "of one family" in page and "is no measure of what was not seen" in page


@pytest.mark.parametrize(
    ("on", "settings", "problem"),
    [
        (["mt_bench"], [], "--on mt_bench: not a benchmark that is known here; known are mt-bench, alpaca-eval, ifeval, open-llm"),
        (["mt-bench=q.jsonl"], [], "--on mt-bench=q.jsonl: mt-bench is judged by a teacher; give --recipe"),
        (["mt-bench"], ["judge.mt_bench.single=false"], "single: false leaves nothing to judge"),
        (["mt-bench"], ["judge.teacher=null"], "mt_bench is judged by a teacher, and there is none"),
        (
            ["alpaca-eval"],
            ["judge.alpaca_eval.preference=log_probabilities", "judge.teacher={kind: local, path: m}"],
            "log_probabilities are asked of a judge behind a server",
        ),
        (["mt-bench"], ["judge.models=[ddpo]"], "judge.models: the run trains no ddpo"),
        (["mt-bench"], ['judge.endpoints={canary: {kind: api, base_url: "http://h/v1", model: m}}'], "canary is a name of ours"),
    ],
)
def test_what_cannot_be_is_said_first(scripted: Scripted, recipe: Path, on: list[str], settings: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        run(recipe, on=on, settings=settings)
    assert not scripted.asked


def test_a_reference_that_is_missing_stops_before_anybody_is_asked(
    scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    small.write_lines(recipe.parent / "r.jsonl", [{**REFERENCES[0], "question_id": 102}])
    with pytest.raises(DataError, match=r"r\.jsonl: question 101: .*needs a reference answer, and there is none"):
        run(recipe, on=["mt-bench"])
    small.write_lines(recipe.parent / "r.jsonl", [{**REFERENCES[0], "choices": [{"index": 0, "turns": ["One turn alone."]}]}])
    with pytest.raises(DataError, match=r"r\.jsonl: question 101: .*needs a reference answer, and it has no turn 2"):
        run(recipe, on=["mt-bench"])
    assert not scripted.asked


def test_rows_that_a_later_stage_would_refuse_are_refused_first(
    scripted: Scripted, recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_KEY", "k")
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"x": 1}]
    bad = small.write_lines(recipe.parent / "bad.jsonl", rows)
    with pytest.raises(DataError, match=r"bad\.jsonl:2: no `chosen`"):
        run(recipe, on=["alpaca-eval", f"preferences={bad}"])
    with pytest.raises(DataError, match=r"bad\.jsonl:1: `key` is None"):
        run(recipe, on=["alpaca-eval", f"ifeval={bad}"])
    pytest.importorskip("lm_eval", reason="academic tasks need lm-eval")
    with pytest.raises(DataError, match=r"bad\.jsonl:1: `question` is missing"):
        run(recipe, on=["alpaca-eval", f"arc_challenge={bad}"])
    assert "forecast" not in capsys.readouterr().err
    settings = beside(recipe, "plain")
    half = (recipe.parent / "baseline.jsonl").read_text().splitlines()[:1]
    (recipe.parent / "baseline.jsonl").write_text(half[0] + "\n")
    with pytest.raises(DataError, match=r"baseline\.jsonl: 1 of 2 questions has no answer, the first is 101"):
        run(recipe, on=["mt-bench"], settings=settings)
    assert not scripted.asked and not (recipe.parent / "out" / "answer").exists()


@pytest.mark.parametrize(("missing", "said"), [(1, "1 instruction has no answer"), (2, "2 instructions have no answer")])
def test_what_was_not_answered_is_counted(tmp_path: Path, recipe: Path, missing: int, said: str) -> None:
    rows = [alpaca.Output(row["instruction"], "x", "m", "d") for row in BASELINE[missing:]]
    alpaca.write_outputs(tmp_path / "alpaca_eval.m.json", rows)
    found = load(recipe)
    inputs = Inputs({"baseline": stage.needs(found).data["baseline"]}, {})  # type: ignore[dict-item]
    with pytest.raises(DataError, match=f"{said}, the first is: 'Say one.'"):
        stage._about_instructions(stage.configure(found), inputs, tmp_path)


@pytest.mark.parametrize(
    ("texts", "reason", "said"),
    [
        (["", "a"], "stop", "1 answer of m is empty; the judge sees it so."),
        (["", " "], "stop", "2 answers of m are empty; the judge sees them so."),
        ([""], "refused", "1 question has no answer of m (the first: no); the judge sees an empty one."),
        (["", ""], "refused", "2 questions have no answer of m (the first: no); the judge sees an empty one."),
    ],
)
def test_one_answer_is_not_several(tmp_path: Path, texts: list[str], reason: str, said: str) -> None:
    request = Request("complete", "p", ())
    with draft(tmp_path / "a", stage="s", key="k", config={}, parents={}) as out:
        answer._counted([Reply(request, text, reason, 0, problem="no") for text in texts], out, "m")
    assert out.manifest.notes == [said]


def test_a_section_given_again_keeps_what_is_no_part_of_a_key(recipe: Path) -> None:
    """Keys by name, prices and limits: a stage run by itself needs them as much as a run does."""
    judge = load(recipe).judge
    assert judge is not None and judge.given()["teacher"]["key_env"] == "SOME_KEY"
    assert "temperature" not in judge.given()["teacher"], "what was not set must not seem to be"
