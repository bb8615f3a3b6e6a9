"""MT-Bench: its files, the judge's prompts and verdicts, scores and win rates with what they rest on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from zephyr.errors import DataError, UsageError
from zephyr.evals import hygiene
from zephyr.evals import names as model_names
from zephyr.evals.asks import CANARY
from zephyr.evals.counts import agree
from zephyr.evals.mt_bench import pairs, scores
from zephyr.evals.mt_bench.files import read_answers, read_judgments, read_questions
from zephyr.evals.mt_bench.records import Answer, Id, Judgment, PairJudgment, strangers
from zephyr.records import Row

Answers = Mapping[str, Mapping[Id, Answer]]
Shown = tuple[str, Judgment | PairJudgment, str | None]  # a model, a judgment of its answers, what the judge was shown of them


def score_file(
    path: Path,
    *,
    compatible: bool = False,
    judge: str | None = None,
    questions: Path | None = None,
    answers: Sequence[Path] = (),
    seed: int = 0,
) -> dict[str, Row]:
    """The scores (or, of a file of pairs, the win rates) of the models in a judgment file.

    Args:
        path: JSONL in FastChat's schema, also under gzip.
        compatible: parse and average as FastChat does, bug for bug.
        judge: take this judge's rows alone.
        questions: the questions that were to be judged; by default MT-Bench's eighty.
        answers: files of the models' answers: whether they are the ones that were judged is checked, and of pairs, whether length decides.
        seed: of the bootstrap.

    Returns:
        For each model what docs/scores.md describes; its `warnings` say what a reader has to know first. Models of a measurement of
        ours have the names that it gives them.

    Raises:
        DataError: a row that cannot be used, judgments of several judges, no verdict at all.
        UsageError: a file that is not there, a judge who judged nothing, a file of answers none of which was judged.
    """
    asked = read_questions(questions) if questions is not None else None
    written = read_judgments(path)
    called = model_names.beside(path, {name for j in written for name in _models_of(j)})
    judgments = [_renamed(j, called) for j in written]
    given = _all_answers(answers, {name for j in judgments for name in _models_of(j)}, path, called)
    judges = sorted({j.judge[0] for j in judgments})
    if judge is not None and judge not in judges:
        raise UsageError(f"{path}: nothing in it was judged by {judge}; judges are {', '.join(judges)}")
    games = [j for j in judgments if isinstance(j, PairJudgment) and judge in (None, j.judge[0])]
    singles = [j for j in judgments if isinstance(j, Judgment) and judge in (None, j.judge[0])]
    if games:
        results = pairs.score(games, compatible=compatible, questions=asked)
        _add_longer_wins(results, games, given, compatible=compatible)
        shown: list[Shown] = [(name, j, prompt) for j in games for prompt in j.user_prompts for name in (j.model_1, j.model_2)]
    else:
        results = scores.score(singles, compatible=compatible, questions=asked, seed=seed)
        shown = [(j.model, j, j.user_prompt) for j in singles]
    _refuse_unread(path, results, len(games or singles))
    _add_warnings(results, shown, given, "mt_bench_pairs" if games else "mt_bench")
    of_the_file = [strangers(judgments)] if asked is None else []
    for name in (judge,) if judge is not None else judges:
        of_the_file += hygiene.served_warnings(f"the judge, {name}", hygiene.served(_served_by(judgments, name)))
    next(iter(results.values()))["warnings"] += filter(None, of_the_file)  # said once: it is not of a model
    return results


def _add_longer_wins(results: Mapping[str, Row], games: Sequence[PairJudgment], given: Answers, *, compatible: bool) -> None:
    """How far the longer answer wins, where the models' answers are given."""
    if not given:
        return
    lengths = {(model, key, i + 1): len(text) for model, mine in given.items() for key, a in mine.items() for i, text in enumerate(a.turns)}
    for model, result in results.items():
        mine = [j for j in games if model in (j.model_1, j.model_2)]
        result["longer_wins"] = pairs.longer_wins(mine, lengths, compatible=compatible)
        if unknown := sorted({name for j in mine for name in _models_of(j)} - set(given)):
            result["warnings"].append(f"{model}: whether the longer answer wins is not known: no answers of {', '.join(unknown)}")


def _add_warnings(results: Mapping[str, Row], shown: Sequence[Shown], given: Answers, kind: str) -> None:
    """What a reader of a model's scores has to know first: other answers than were judged, empty ones, a canary that does too well."""
    for model, text in [*_other_answers(shown, given).items(), *_empty_answers(shown, given).items()]:
        if model in results:  # who was set beside the canary alone has no result
            results[model]["warnings"].append(text)
    if CANARY in results:
        results[CANARY]["warnings"] += hygiene.canary_warnings({kind: results})


def _served_by(judgments: Iterable[Judgment | PairJudgment], judge: str) -> Iterator[str]:
    """The model of a judge's every verdict, as the server calls it."""
    for j in judgments:
        if j.judge[0] == judge:
            yield from j.served if isinstance(j, PairJudgment) else (j.served,)


def _models_of(judgment: Judgment | PairJudgment) -> tuple[str, ...]:
    return (judgment.model_1, judgment.model_2) if isinstance(judgment, PairJudgment) else (judgment.model,)


def _refuse_unread(path: Path, results: Mapping[str, Row], n: int) -> None:
    """Of `n` judgments one has to have a verdict."""
    if any(result.get("score", result.get("win_rate")) is not None for result in results.values()):
        return
    unread = sum((Counter(result.get("unparsed")) for result in results.values()), Counter[str]())
    reasons = f" ({', '.join(f'{problem} {times}' for problem, times in unread.items())})" if unread else ""
    raise DataError(f"{path}: none of {n} {agree(n, 'judgment', 'judgments')} has a verdict{reasons}")


def _renamed(judgment: Judgment | PairJudgment, names: Mapping[str, str]) -> Judgment | PairJudgment:
    if isinstance(judgment, PairJudgment):
        first, second = (names.get(model, model) for model in _models_of(judgment))
        return replace(judgment, model_1=first, model_2=second)
    return replace(judgment, model=names.get(judgment.model, judgment.model))


def _all_answers(paths: Sequence[Path], judged: Set[str], judgments: Path, names: Mapping[str, str]) -> dict[str, dict[Id, Answer]]:
    """The answers of all files by model, each file with those of one that was judged at least."""
    found: dict[str, dict[Id, Answer]] = {}
    for path in paths:
        theirs = {names.get(model, model): mine for model, mine in read_answers(path).items()}
        if not judged & theirs.keys():
            raise UsageError(f"{path}: answers of {', '.join(sorted(theirs))}, and {judgments} judges those of {', '.join(sorted(judged))}")
        for model, mine in theirs.items():
            if model in found:
                raise UsageError(f"{path}: answers of {model} were given already")
            found[model] = mine
    return found


def _other_answers(shown: Iterable[Shown], answers: Answers) -> dict[str, str]:
    """By model, what of its judgments is about answers other than those given."""
    of: dict[str, list[bool]] = defaultdict(list)
    for model, judgment, prompt in shown:
        if model not in answers or prompt is None:
            continue
        answer = answers[model].get(judgment.question_id)
        of[model].append(answer is not None and all(text in prompt for text in answer.turns[: judgment.turn]))
    return {
        model: f"{model}: {same.count(False)} of {len(same)} judgments {agree(same.count(False), 'is', 'are')} about other answers than "
        "those in the file of answers"
        for model, same in of.items()
        if not all(same)
    }


def _empty_answers(shown: Iterable[Shown], answers: Answers) -> dict[str, str]:
    """By model, which of its judged answers say nothing."""
    turns: dict[str, dict[tuple[Id, int], str]] = defaultdict(dict)
    for model, judgment, _ in shown:
        answer = answers.get(model, {}).get(judgment.question_id)
        if answer is not None and len(answer.turns) >= judgment.turn:
            turns[model][judgment.question_id, judgment.turn] = answer.turns[judgment.turn - 1]
    empty = {model: [cell for cell, text in mine.items() if not text.strip()] for model, mine in turns.items()}
    return {
        model: f"{model}: {len(cells)} of {len(turns[model])} judged answers {agree(len(cells), 'is', 'are')} empty, the first is that to "
        f"question {cells[0][0]} turn {cells[0][1]}"
        for model, cells in empty.items()
        if cells
    }
