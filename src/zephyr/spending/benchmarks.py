"""What `answer` and `judge` will ask."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.mt_bench import files as mt_bench
from zephyr.evals.mt_bench.records import Answer
from zephyr.recipe import APIConfig, DataSource, Recipe
from zephyr.spending.lines import CHARACTERS_A_TOKEN, Line, is_done, line_of
from zephyr.stages import From, Inputs, answer, judge
from zephyr.teachers import Reply, Request, wire


def of_answer(recipe: Recipe, run_dir: Path) -> list[Line]:
    """What models behind servers are asked by chat benchmarks; second turns follow on answers that are taken to be as long as may be."""
    if recipe.judge is None or not recipe.judge.endpoints or is_done(recipe, "answer", run_dir):
        return []
    config = answer.configure(recipe)
    given = _benchmarks(recipe)
    found = []
    for name, endpoint in recipe.judge.endpoints.items():
        asked: list[Request] = []
        replies: dict[answer.Key, Reply] = {}
        for turn in (1, 2):
            for key, request in answer.requests(config, name, turn, given, replies):
                asked.append(request)
                text = "x" * (CHARACTERS_A_TOKEN * wire.limit_of(endpoint, request))
                replies[key] = Reply(request, text, "stop", 0)
        found.append(line_of("answer", name, endpoint, asked, run_dir))
    return found


def of_judge(recipe: Recipe, run_dir: Path) -> list[Line]:
    """What the judge is asked: of the answers there are, or of answers that are taken to be as long as may be."""
    if recipe.judge is None or recipe.judge.teacher is None or recipe.judge.teacher.kind != "api" or is_done(recipe, "judge", run_dir):
        return []
    config = judge.configure(recipe)
    assert isinstance(config.teacher, APIConfig)
    data = {name: given for name, given in judge.needs(recipe).data.items() if not isinstance(given, From)}

    def asked(answers: Path) -> Iterable[Request]:
        return judge.requests(config, Inputs({**data, "answers": [DataSource(path=str(answers))]}, {}))[0]

    if is_done(recipe, "answer", run_dir):
        return [line_of("judge", judge.TEACHER, config.teacher, asked(run_dir / "answer"), run_dir)]
    guess = "the answers are not written yet; each is taken to be as long as may be"
    with tempfile.TemporaryDirectory() as scratch:
        _write_longest(recipe, Path(scratch))
        return [line_of("judge", judge.TEACHER, config.teacher, asked(Path(scratch)), run_dir, guess)]


def _write_longest(recipe: Recipe, out: Path) -> None:
    """Answers of all models as the stage `answer` would leave them, each as long as it may be."""
    given, models = _benchmarks(recipe), answer.configure(recipe)
    folder = out / "data"
    folder.mkdir()
    for name in (*models.models, *models.endpoints):
        if given.questions:
            text = name.ljust(CHARACTERS_A_TOKEN * (models.mt_bench_tokens or 0), "x")
            made = [Answer(key, name, (text,) * len(q.turns)) for key, q in given.questions.items()]
            mt_bench.write(folder / f"mt_bench.{name}.jsonl", made)
        if given.baseline:
            text = name.ljust(CHARACTERS_A_TOKEN * (models.alpaca_eval_tokens or 0), "x")
            alpaca.write_outputs(folder / f"alpaca_eval.{name}.json", [replace(b, output=text, generator=name) for b in given.baseline])


def _benchmarks(recipe: Recipe) -> answer.Asked:
    """The questions of the chat benchmarks that the recipe names."""
    return answer.read(answer.needs(recipe).data, answer.configure(recipe).limit)
