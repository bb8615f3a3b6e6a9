"""What benchmarks' files say, read before the first stage runs: hours, or paid replies, may lie between it and who needs them."""

from __future__ import annotations

from pathlib import Path

from zephyr.evals import preference_runs, public
from zephyr.evals.alpaca_eval import files as alpaca
from zephyr.evals.ifeval import read_items
from zephyr.evals.mt_bench import files, judging, prompts
from zephyr.evals.mt_bench.records import Answer
from zephyr.recipe import EvaluateConfig, JudgeConfig
from zephyr.recipe.judging import MTBenchConfig


def refuse_wrong_files(judge: JudgeConfig | None, evaluate: EvaluateConfig | None) -> None:
    """Read the chat benchmarks' files, the preference sets and the academic tasks; of a section that is None, nothing.

    Raises:
        DataError: a row that cannot be used, a reference or a baseline's answer that is missing, or nothing to compare.
        UsageError: answers of several models in a file, and none chosen.
        ZephyrError: the hub does not give a task's rows, or lm-eval is not the one whose prompts these are.
    """
    if judge and judge.mt_bench:
        _refuse_mt_bench(judge.mt_bench, judge.limit)
    if judge and judge.alpaca_eval:
        alpaca.read_outputs(Path(judge.alpaca_eval.baseline).expanduser())
    if judge and judge.ifeval:
        read_items(judge.ifeval.prompts)
    if evaluate:
        preference_runs.read_all(evaluate.preferences, evaluate.limit)
        public.plans(evaluate)


def _refuse_mt_bench(config: MTBenchConfig, limit: int | None) -> None:
    """All that the judge will be asked, about empty answers: what fails there fails here."""
    questions = dict(list(files.read_questions(Path(config.questions).expanduser()).items())[:limit])
    given = Path(config.references).expanduser()
    _, references = judging.answers_of(given, config.reference_model, "judge.mt_bench.reference_model")
    templates = prompts.read_templates(Path(config.prompts).expanduser()) if config.prompts else prompts.builtin()
    for pairs in [False] * config.single + [True] * bool(config.against):
        judging.refuse_missing(references, questions, templates, given, pairs=pairs)
    nobody = {"nobody": {key: Answer(key, "nobody", ("",) * len(question.turns)) for key, question in questions.items()}}
    if config.single:
        for _ in judging.turns(nobody, questions, templates, references, 0):
            pass
    if config.against:
        path = Path(config.against).expanduser()
        name, theirs = judging.answers_of(path, config.against_model, "judge.mt_bench.against_model")
        baseline = name, judging.complete(theirs, questions, path)
        for _ in judging.games(nobody, baseline, questions, templates, references, 0):
            pass
