"""What comes of answers to chat benchmarks once they are judged: rows in the originals' files, and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from zephyr.evals import plain_files
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.alpaca_eval import judging as alpaca_judging
from zephyr.evals.alpaca_eval import scores as alpaca_scores
from zephyr.evals.asks import CANARY, Heard
from zephyr.evals.ifeval import Item, difference, score_items
from zephyr.evals.mt_bench import files as mt_files
from zephyr.evals.mt_bench import judging as mt_judging
from zephyr.evals.mt_bench import scores as mt_scores
from zephyr.evals.mt_bench.records import QUESTION_IDS, Id, Question, category_of
from zephyr.records import Row


def mt_bench(
    turns: Mapping[mt_judging.Turn, Heard], judge: str, questions: Mapping[Id, Question], data: Path, *, compatible: bool, seed: int
) -> Row:
    """Scores of each turn by itself; the verdicts go into `data`."""
    verdicts = [mt_judging.judgment(turn, reply, judge, compatible=compatible) for turn, reply in turns.items()]
    mt_files.write(data / "mt_bench_judgments.jsonl", verdicts)
    return mt_scores.score(verdicts, compatible=compatible, questions=_asked(questions), seed=seed)


def _asked(questions: Mapping[Id, Question]) -> Mapping[Id, Question] | None:
    """What was to be judged: of MT-Bench's own questions all eighty (None), so that what a limit leaves out is said.

    Others may have the same numbers: its own are of their category and have two turns.
    """
    own = all(key in QUESTION_IDS and category_of(key) == q.category and len(q.turns) == 2 for key, q in questions.items())
    return None if own else questions


def mt_bench_pairs(
    games: Mapping[mt_judging.Game, Heard],
    judge: str,
    questions: Mapping[Id, Question],
    answers: Mapping[str, mt_judging.Answers],
    data: Path,
    *,
    compatible: bool,
) -> Row:
    """Win rates beside the baseline; the verdicts go into `data`.

    Args:
        games: what was asked, with the replies.
        judge: its name.
        questions: of the benchmark.
        answers: by model, the baseline's among them.
        data: the folder of the files.
        compatible: read as the original does.
    """
    verdicts = mt_judging.pair_judgments(games, judge, compatible=compatible)
    mt_files.write(data / "mt_bench_pair_judgments.jsonl", verdicts)
    return mt_judging.score_pairs(verdicts, answers, _asked(questions), compatible=compatible)


def alpaca_eval(pairs: Mapping[alpaca_judging.Pair, Heard], judge: str, data: Path, *, seed: int) -> dict[str, Row]:
    """The win rate of each model, and what it differs by from the others'; the annotations go into `data`."""
    found: dict[str, Row] = {}
    annotated = alpaca_judging.annotated(pairs, judge)
    for model, theirs in annotated.items():
        alpaca.write(data / f"alpaca_eval.{model}.annotations.json", theirs)
        found[model] = alpaca_judging.score(theirs, seed=seed)
        others = {name: rows for name, rows in annotated.items() if name not in (model, CANARY)}
        if others and model != CANARY:
            found[model]["against"] = {name: alpaca_scores.difference(theirs, rows) for name, rows in others.items()}
    return found


def ifeval(responses: Mapping[str, Path], items: Sequence[Item], data: Path) -> dict[str, Row]:
    """What each model's responses follow, and what it differs by from the others; nobody is asked. The verdicts go into `data`.

    Args:
        responses: by model, the file of them.
        items: the prompts with their instructions.
        data: the folder of the files, each called as that of the responses.
    """
    found = {model: score_items(str(path), items, rows=data / path.name) for model, path in responses.items()}
    rows = {model: [row for _, row in plain_files.rows(data / path.name)] for model, path in responses.items()}
    for model in found if len(found) > 1 else ():
        others = {name: theirs for name, theirs in rows.items() if name != model}
        found[model]["against"] = {name: difference((model, rows[model]), (name, theirs)) for name, theirs in others.items()}
    return found
