"""Does our scoring give the numbers that were published? Every vendored result of MT-Bench and AlpacaEval, recomputed.

    python benchmarks/parity.py DATA

DATA holds `alpaca_eval_parity/` and `eval/`, as its README describes them: real answers, judgments, annotations and leaderboards. None
of it ships with the project. Tables go to stdout, the last line is one JSON object; the exit code is 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zephyr.errors import ZephyrError
from zephyr.evals import alpaca_eval, mt_bench
from zephyr.evals.alpaca_eval import files, leaderboard, length, preferences, scores, tables
from zephyr.evals.mt_bench import prompts, verdicts
from zephyr.evals.mt_bench.files import read_answers, read_judgments, read_questions
from zephyr.evals.mt_bench.records import WITH_REFERENCE, Answer, Judgment, PairJudgment, Question

# where upstream's own row and weights come from different fits
NOT_REPRODUCIBLE = ("NullModel", "dbrx-instruct")
AE1, AE2 = "alpaca_eval_gpt4", "weighted_alpaca_eval_gpt4_turbo"


@dataclass
class Table:
    """A claim, the rows that show it, and whether it holds."""

    name: str
    claim: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    holds: bool = True
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, *cells: Any, holds: bool = True) -> None:
        """A row; one that does not hold fails the table."""
        self.rows.append(cells)
        self.holds &= bool(holds)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true", help="every table, of fewer rows")
    args = parser.parse_args()
    try:
        found = parity(args.data, quick=args.quick)
    except ZephyrError as error:
        sys.exit(f"parity: {error}")
    for table in found:
        print(f"\n{table.name}: {'holds' if table.holds else 'DOES NOT HOLD'}. {table.claim}")
        cells = [table.columns, *[tuple(_cell(c) for c in row) for row in table.rows]]
        widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
        for row in cells:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    holds = all(table.holds for table in found)
    print(json.dumps({"holds": holds, "tables": {t.name: {"holds": t.holds, **t.figures} for t in found}}))
    sys.exit(0 if holds else 1)


def parity(data: Path, *, quick: bool = False) -> list[Table]:
    """All tables, of the files under `data`."""
    folder, evaluation = data / "alpaca_eval_parity", data / "eval"
    annotations = {
        (path.parent.parent.name, path.parent.name): files.read(path)
        for path in sorted(folder.glob("*/*alpaca_eval_gpt4*/annotations.json.gz"))
    }
    boards = {AE1: evaluation / "alpaca_eval/alpaca_eval_gpt4_leaderboard.csv"}
    boards[AE2] = evaluation / "alpaca_eval/weighted_alpaca_eval_gpt4_turbo_leaderboard.csv"
    judged = [j for j in read_judgments(evaluation / "mt_bench/gpt4_judgments_single.jsonl.gz") if isinstance(j, Judgment)]
    found = [
        win_rates(annotations, boards),
        weights(folder, boards[AE2]),
        refits(annotations, boards, folder, quick=quick),
        orders(annotations),
        log_probabilities(annotations),
        judgments(judged),
        mt_bench_scores(evaluation, folder),
        judged_prompts(judged, evaluation, folder),
        pairs(folder),
    ]
    return [*found, *defects(annotations, boards, folder, judged)]


def win_rates(annotations: dict[tuple[str, str], list[files.Annotation]], boards: dict[str, Path]) -> Table:
    """Win rate, standard error and n of every annotated model, with `--compatible` and without."""
    table = Table("win rates", "as published to 1e-6", ("model", "annotator", "win rate", "standard error", "n", "off by", "counts"))
    published = {name: leaderboard.read(path) for name, path in boards.items()}
    worst = 0.0
    for (model, annotator), these in annotations.items():
        row = published[annotator][model]
        for compatible in (False, True):
            ours = scores.score(these, compatible=compatible)
            off = max(abs(ours[key] - float(row[key])) for key in ("win_rate", "standard_error", "n_total"))
            # the published length is that of model_outputs.json, which is not what a file that lacks rows holds
            keys = ("n_wins", "n_wins_base", "n_draws", *(("avg_length",) if len(these) == files.INSTRUCTIONS else ()))
            counts = all(ours[key] == int(float(row[key])) for key in keys)
            worst = max(worst, off)
        table.add(model, annotator, ours["win_rate"], ours["standard_error"], ours["n_total"], off, counts, holds=off < 1e-6 and counts)
    table.figures = {"files": len(annotations), "largest_difference": worst}
    return table


def weights(folder: Path, board: Path) -> Table:
    """Length-controlled rates from the published weights, over the rows of each model's file."""
    found = tables.find([folder])
    assert found.difficulties is not None
    published = {row["model"]: row for row in csv.DictReader((folder / "lc_weights.csv").open(encoding="utf-8"))}
    table = Table(
        "published weights",
        "length-controlled as published to 1e-6, but for the models named",
        ("model", "n", "rows", "published", "ours", "off by"),
    )
    offs = {}
    for model, w in found.weights.items():
        n, rate = int(published[model]["n_total"]), float(published[model]["published_lc"])
        # n counts verdicts; the rows, over which the original averages, are as many or more, and known for the files on hand alone
        count = min((805, *range(n, 805)), key=lambda k: abs(length.from_weights(w, found.difficulties[:k]) - rate))
        ours = length.from_weights(w, found.difficulties[:count])
        offs[model] = abs(ours - rate)
        if offs[model] > 1e-6 or n < 805:
            table.add(model, n, count, rate, ours, offs[model], holds=offs[model] < 1e-6 or model in NOT_REPRODUCIBLE)
    exact = {model: off for model, off in offs.items() if off < 1e-6}
    rows_of_board = leaderboard.read(board)
    missing = [model for model in offs if model not in rows_of_board]
    table.add(f"{len(exact)} of {len(offs)} models", "", "", "", "", max(exact.values()))
    table.holds &= set(offs) - set(exact) <= set(NOT_REPRODUCIBLE)
    table.figures = {"models": len(offs), "exact": len(exact), "others": sorted(set(offs) - set(exact)), "not_on_the_board": missing}
    return table


def refits(annotations: dict[tuple[str, str], list[files.Annotation]], boards: dict[str, Path], folder: Path, *, quick: bool) -> Table:
    """Length-controlled rates of a new fit; AlpacaEval 1's for comparison, for which the gamed baselines were not made."""
    found = tables.find([folder])
    assert found.difficulties is not None
    published = {name: leaderboard.read(path) for name, path in boards.items()}
    table = Table(
        "refits",
        "length-controlled within 0.2 of AlpacaEval 2's published rate, fitted as the original does",
        ("model", "annotator", "published", "fitted", "off by", "95%", "aligned"),
    )
    largest = 0.0
    for (model, annotator), these in annotations.items():
        if quick and annotator == AE1:
            continue
        rate = float(published[annotator][model]["length_controlled_winrate"])
        fitted = {}
        for positional in (True, False):
            own = length.own_difficulties(these, found.difficulties, positional=positional)
            assert own is not None
            problem = length.problem_of(these, own, found)
            assert problem is not None
            names = [a.instruction for a in these if a.points is not None]
            if positional or len(these) < len(found.difficulties):
                fitted[positional] = length.fit(problem, names, own if positional else found.difficulties)
        ours = fitted[True]
        assert ours.ci95 is not None
        off = abs(ours.rate - rate)
        aligned = fitted.get(False)
        table.add(
            model,
            annotator,
            rate,
            ours.rate,
            off,
            "{:.2f} to {:.2f}".format(*ours.ci95),
            aligned.rate if aligned else "",
            holds=annotator == AE1 or off < 0.2,
        )
        largest = max(largest, off if annotator == AE2 else 0.0)
    table.figures = {"largest_difference": largest}
    return table


def orders(annotations: dict[tuple[str, str], list[files.Annotation]]) -> Table:
    """The order in which each pair was shown, against the raw completions and by what it does to the win rate."""
    table = Table(
        "presentation order", "derived from each instruction; every raw completion gives the preference in that order, and in no other",
        ("model", "annotator", "pairs", "model first", "with completion", "agree", "the other order agrees"),
    )  # fmt: skip
    pairs_checked = completions = 0
    for (model, annotator), these in annotations.items():
        raw = [a for a in these if a.row.get("raw_completion") is not None]
        agree = dict.fromkeys((False, True), 0)
        for a in raw:
            shown = preferences.of_completion(a.row["raw_completion"])
            for flip in agree:
                first = preferences.model_shown_first(a.instruction) is not flip
                same = shown is not None and a.preference is not None
                agree[flip] += same and abs(preferences.unswitched(shown, model_first=first) - a.preference) < 1e-6
        bits = sum(preferences.model_shown_first(a.instruction) for a in these)
        table.add(
            model,
            annotator,
            len(these),
            bits,
            len(raw),
            agree[False],
            agree[True],
            holds=agree[False] == len(raw) and (not raw or agree[True] < len(raw) / 10),
        )
        pairs_checked, completions = pairs_checked + len(these), completions + len(raw)
    table.figures = {"pairs": pairs_checked, "completions": completions}
    return table


def log_probabilities(annotations: dict[tuple[str, str], list[files.Annotation]]) -> Table:
    """Preferences out of the first token's log-probabilities."""
    table = Table(
        "log-probabilities",
        "every preference re-derived, to the ten digits that it was rounded to",
        ("model", "rows", "re-derived", "largest difference"),
    )
    for (model, annotator), these in annotations.items():
        if annotator != AE2:
            continue
        offs = []
        for a in these:
            if a.row.get("raw_completion") is None or a.preference is None:
                continue
            shown = preferences.of_completion(a.row["raw_completion"])
            assert shown is not None
            offs.append(abs(preferences.unswitched(shown, model_first=preferences.model_shown_first(a.instruction)) - a.preference))
        table.add(model, len(offs), sum(off < 1e-6 for off in offs), max(offs), holds=max(offs) < 1e-6)
        table.figures[model] = len(offs)
    return table


def judgments(judged: list[Judgment]) -> Table:
    """Every MT-Bench judgment, read strictly and as the original reads it."""
    table = Table("judgments", "all re-parse to the recorded score, by both parsers", ("model", "rows", "strict", "compatible"))
    total = Counter[str]()
    for model in dict.fromkeys(j.model for j in judged):
        these = [j for j in judged if j.model == model]
        strict = sum(verdicts.single(j.judgment or "").value == j.score for j in these)
        compatible = sum(verdicts.single_compatible(j.judgment or "") == j.score for j in these)
        table.add(model, len(these), strict, compatible, holds=strict == compatible == len(these))
        total.update(rows=len(these), strict=strict, compatible=compatible)
    table.figures = dict(total)
    return table


def mt_bench_scores(evaluation: Path, folder: Path) -> Table:
    """Model means against those on record."""
    expected = json.loads((folder / "mt_bench/expected.json").read_text(encoding="utf-8"))["single"]["phi-3-dpo"]
    wanted = {"vicuna-7b-v1.3": 6.1031, "vicuna-7b-v1.3-greedy": 5.8781, "medusa-vicuna-7b-v1.3": 5.9875, "mistral-orpo-mix": 6.0031}
    wanted |= {"phi-3-dpo": expected["average"], "claude-3-5-sonnet-20240620": 9.2063}
    table = Table(
        "MT-Bench scores", "as recorded, with and without --compatible", ("model", "recorded", "ours", "95%", "turn 1", "turn 2", "n")
    )
    path = evaluation / "mt_bench/gpt4_judgments_single.jsonl.gz"
    both = [mt_bench.score_file(path, compatible=compatible) for compatible in (True, False)]
    for model, ours in both[1].items():
        same = math.isclose(ours["score"], both[0][model]["score"], abs_tol=1e-12)
        holds = same and abs(ours["score"] - wanted[model]) < 6e-5
        if model == "phi-3-dpo":
            holds &= ours["turn_1"] == expected["turn1"]["mean"] and ours["turn_2"] == expected["turn2"]["mean"]
        table.add(
            model,
            wanted[model],
            ours["score"],
            "{:.2f} to {:.2f}".format(*ours["ci95"]),
            ours["turn_1"],
            ours["turn_2"],
            ours["n"],
            holds=holds,
        )
    return table


def judged_prompts(judged: list[Judgment], evaluation: Path, folder: Path) -> Table:
    """Prompts rendered from FastChat's templates: from the answers where they are the judged ones, else from those read back."""
    templates = prompts.read_templates(evaluation / "mt_bench/judge_prompts.jsonl")
    questions = read_questions(evaluation / "mt_bench/question.jsonl")
    references = read_answers(evaluation / "mt_bench/reference_answer_gpt-4.jsonl")
    reference = next(iter(references.values()))
    answers = read_answers(evaluation / "mt_bench/model_answers.jsonl.gz")
    table = Table(
        "judge's prompts",
        "byte-equal to what was judged, where the answers are the same",
        ("model", "rows", "same answers", "byte-equal", "other answers", "equal from answers read back"),
    )
    totals = Counter[str]()
    for model in dict.fromkeys(j.model for j in judged):
        count = Counter[str]()
        for j in (j for j in judged if j.model == model):
            question = questions[j.question_id]
            template = prompts.choose(templates, pairs=False, category=question.category, turn=j.turn)
            ref = reference[j.question_id] if question.category in WITH_REFERENCE else None
            read_back = _read_back(template, question, ref, j.user_prompt or "")
            mine = answers.get(model, {}).get(j.question_id)
            same = mine is not None and read_back is not None and mine.turns[: j.turn] == read_back.turns
            count["same"] += same
            count["equal"] += same and prompts.messages(template, question, [mine], reference=ref)[1]["content"] == j.user_prompt
            count["other"] += not same
            rendered = (
                read_back is not None and prompts.messages(template, question, [read_back], reference=ref)[1]["content"] == j.user_prompt
            )
            count["back"] += rendered
        rows_of = sum(j.model == model for j in judged)
        table.add(
            model,
            rows_of,
            count["same"],
            count["equal"],
            count["other"],
            count["back"],
            holds=count["equal"] == count["same"] and count["back"] == rows_of,
        )
        totals.update(count)
    table.figures = dict(totals)
    return table


def pairs(folder: Path) -> Table:
    """Pairs judged in both orders."""
    expected = json.loads((folder / "mt_bench/expected.json").read_text(encoding="utf-8"))["pair"]
    table = Table(
        "MT-Bench pairs",
        "wins, losses, ties and adjusted win rate as show_result.py prints them; the verdicts re-parse",
        ("model", "won", "lost", "tied", "win rate", "consistent", "first both", "second both"),
    )
    path = folder / "mt_bench/model_judgment/gpt-4_pair.jsonl.gz"
    ours = mt_bench.score_file(path, compatible=True)
    for model, r in ours.items():
        e = expected[model]
        o = r["order"]
        holds = (r["wins"], r["losses"], r["ties"]) == (e["win"], e["loss"], e["tie"]) and abs(
            r["win_rate"] / 100 - e["win_rate_adjusted"]
        ) < 1e-9
        holds &= (
            o["first_both_times"] == expected["g1_g2_counts"]["model_1|model_2"]
            and o["second_both_times"] == expected["g1_g2_counts"]["model_2|model_1"]
        )
        table.add(
            model,
            r["wins"],
            r["losses"],
            r["ties"],
            r["win_rate"],
            o["consistent"],
            o["first_both_times"],
            o["second_both_times"],
            holds=holds,
        )
    rows_ = [j for j in read_judgments(path) if isinstance(j, PairJudgment)]
    for compatible in (True, False):
        read = [mt_bench.pairs.read(j, compatible=compatible) for j in rows_]
        table.holds &= all((g.first, g.second) == g.judgment.winners for g in read)
    table.figures = {"pairs": len(rows_)}
    return table


def defects(
    annotations: dict[tuple[str, str], list[files.Annotation]], boards: dict[str, Path], folder: Path, judged: list[Judgment]
) -> list[Table]:
    """What the originals get wrong, rebuilt from the files: each is counted as they do, and said by us."""
    table = Table("defects", "each is found and said", ("defect", "as the original counts it", "found", "what is said"))
    one, other = ([j for j in judged if j.model == name] for name in ("vicuna-7b-v1.3", "vicuna-7b-v1.3-greedy"))
    merged = one + [Judgment(**{**vars(j), "model": "vicuna-7b-v1.3"}) for j in other]
    result = mt_bench.scores.score(merged)["vicuna-7b-v1.3"]
    row = mt_bench.scores.score(merged, compatible=True)["vicuna-7b-v1.3"]
    _defect(
        table, "two runs under one model id", f"{row['score']:.4f}, of {row['n']} rows", result["warnings"], "two runs under one model id"
    )

    a1, g2 = annotations["alpaca-7b", AE1], annotations["gpt35_turbo_instruct", AE2]
    said = scores.belongs_to(a1, Path("results/falcon-7b-instruct/alpaca_eval_gpt4/annotations.json"))
    _defect(table, "annotations of another model", f"{scores.score(a1)['win_rate']:.2f}", said, "another model, or another name")
    outputs = [files.Output(a.instruction, a.output_2, "zephyr-7b-beta") for a in annotations["zephyr-7b-beta", AE1]]
    _defect(table, "outputs that are not what was judged", "not looked at", [files.check_outputs(a1, outputs) or ""], "are not those of")
    copies = leaderboard.copies(leaderboard.read(boards[AE1]))
    _defect(table, "a leaderboard row that is a copy", "published", [" and ".join(pair) for pair in copies], "falcon")

    whole, found = annotations["alpaca-7b", AE2], tables.find([folder])
    lacking = [a for i, a in enumerate(whole) if i != 200]
    assert found.difficulties is not None
    rates = {}
    for positional in (True, False):
        own = length.own_difficulties(lacking, found.difficulties, positional=positional)
        assert own is not None
        problem = length.problem_of(lacking, own, found)
        assert problem is not None
        rates[positional] = length.fit(problem, [a.instruction for a in lacking], own if positional else found.difficulties).rate
    said = [w for w in scores.score(lacking)["warnings"] if "missing" in w]
    text = [f"{said[0]}; fitted with shifted difficulties {rates[True]:.2f}, with each row's own {rates[False]:.2f}"] if said else []
    _defect(table, "difficulties shifted by a missing row", f"{rates[True]:.2f}", text, "missing")
    upstream = alpaca_eval.length_controlled(g2, [folder], compatible=False)
    _defect(table, "the same, as published", f"{upstream['published_weights']['rate']:.2f}", upstream["remarks"], "shifted difficulties")
    table.figures = {
        "shifted": rates[True],
        "aligned": rates[False],
        "published_and_refitted": [upstream[k]["rate"] for k in ("published_weights", "fitted")],
    }

    again = _repeated(one)
    return [table, again]


def _repeated(one: list[Judgment]) -> Table:
    """Judging again: verdicts that move by one, drawn by a seed, must be told from two runs."""
    drawn = random.Random(0)
    moved = [
        Judgment(**{**vars(j), "judgment": f"Rating: [[{min(10, max(1, round(j.score or 1) + drawn.choice((-1, 0, 1))))}]]", "score": None})
        for j in one
    ]
    result = mt_bench.scores.score(one + moved)["vicuna-7b-v1.3"]
    table = Table(
        "judged again",
        "repeated judging is told from two runs, and its spread is known",
        ("rows", "duplicates", "verdict moves by", "score moves by", "what is said"),
    )
    r = result["repeated_judging"]
    said = next((w for w in result["warnings"] if "repeat" in w), "")
    table.add(
        result["n"],
        result["duplicates"],
        r["verdict_sd"],
        r["score_sd"],
        said,
        holds=result["duplicates"] == len(one) and "judged again" in said and r["cells"] > 100,
    )
    return table


def _defect(table: Table, name: str, original: str, said: list[str], mark: str) -> None:
    hit = next((text for text in said if mark in text), "")
    table.add(name, original, "yes" if hit else "NO", hit, holds=bool(hit))


def _read_back(template: prompts.Template, question: Question, reference: Answer | None, prompt: str) -> Answer | None:
    """The answer that a judged prompt shows."""
    known = {"question": question.turns[0], "question_1": question.turns[0], "question_2": question.turns[1]}
    if reference is not None:
        known |= {f"ref_answer_{i + 1}": text for i, text in enumerate(reference.turns)}
    found = prompts.answers_in(template, prompt, known)
    if found is None:
        return None
    turns = (found["answer"],) if "answer" in found else (found["answer_1"], found["answer_2"])
    return Answer(question.question_id, "read back", turns)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.6g}"
    return re.sub(r"\S*/", "", str(value))  # places in files by the file's name alone


if __name__ == "__main__":
    main()
