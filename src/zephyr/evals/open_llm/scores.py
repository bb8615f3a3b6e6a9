"""A model's scores on what was planned, each with its error and interval."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.evals.open_llm import harness
from zephyr.evals.open_llm.benchmarks import BENCHMARKS, Plan
from zephyr.evals.statistics import Z_80, Difference, rate, share, student_t_975
from zephyr.parts import Keep, nothing_kept

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# what every item came to, by benchmark and lm-eval's name of its parts
Each = dict[str, dict[str, list[float]]]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    planned: Sequence[Plan],
    *,
    batch_size: int = 8,
    seed: int = 0,
    out: Path | None = None,
    keep: Keep = nothing_kept,
    each: Each | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores of a model on academic tasks. Nothing is fetched, cached or printed on stdout.

    Args:
        model: a causal language model, on the CPU or a GPU.
        tokenizer: its tokenizer, which puts BOS before a text if the model wants one.
        planned: what is asked, of `plans`.
        batch_size: rows a forward pass, where a model cannot share what prompts begin with.
        seed: of the choice of examples.
        out: a folder for what lm-eval itself would write: `results_TASK.json` and `samples_TASK.jsonl`.
        keep: gives what an interrupted run has kept of a task's answers, and keeps more.
        each: takes, by task and lm-eval's name of its parts, what every item came to, for `difference`.

    Returns:
        For each task `metric`, `value`, its standard error `stderr` and 95% interval `ci95` (all from 0 to 1; None for those
        of a single item), the number of items `n`, `num_fewshot`, `sampler` (of the examples), `examples_from_items` (whether
        they are other items of what is asked), `excluded` (items left out as they are examples too), `truncated` (items
        whose prompt lost its beginning, being longer than the model takes),
        `lm_eval` (its version), `tokens` that went through the model and `plain_tokens` that would have one question at a
        time. MMLU's `value` weighs its subjects equally, as the leaderboard did; `value_by_item`, `stderr_by_item` and
        `ci95_by_item` weigh items equally, as lm-eval does today; `subjects` has `value`, `stderr`, `ci95` and `n` of each.

    Raises:
        ModelError: a tokenizer that cannot be used to score continuations.
        DataError: a continuation without tokens, or with more than the model takes.
        NonFiniteError: the model gave a log-likelihood that is not a number.
    """
    if not planned:
        return {}
    known = harness.catalog()
    from zephyr.evals.open_llm.scorer import Scorer

    was_training, stderr = model.training, sys.stderr
    with harness.quiet():
        scorer = Scorer(model, tokenizer, batch_size, stderr, keep=keep)
    try:
        return {p.name: _run(p, scorer, known, seed, out, {} if each is None else each) for p in planned}
    finally:
        model.train(was_training)


def _run(plan: Plan, scorer: Any, known: Any, seed: int, out: Path | None, each: Each) -> dict[str, Any]:
    from lm_eval.evaluator import evaluate as lm_evaluate

    scorer.label = plan.name
    with harness.quiet():
        loaded = harness.tasks(plan, known, seed)
        results = lm_evaluate(scorer, {"tasks": loaded}, log_samples=True)
    if out is not None:
        from zephyr.evals.open_llm import outputs

        outputs.write(out, plan.name, results)
    benchmark = BENCHMARKS[plan.name]
    scores = {task: [float(sample[benchmark.lm_eval_metric]) for sample in results["samples"][task]] for task in loaded}
    each[plan.name] = scores
    return {
        "metric": benchmark.metric,
        **summary(scores),
        "num_fewshot": benchmark.shots,
        "sampler": "first_n" if plan.name == "mmlu" else plan.sampler if benchmark.shots else "fixed",
        "examples_from_items": bool(benchmark.shots) and any(part.own for part in plan.parts),
        "excluded": plan.excluded,
        "truncated": scorer.truncated,
        "lm_eval": harness.VERSION,
        "tokens": scorer.tokens,
        "plain_tokens": scorer.plain_tokens,
        **(by_item(scores) if plan.name == "mmlu" else {}),
    }


def summary(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Mean over tasks of the mean over items, with its error and interval: the tasks are fixed, their items are a sample."""
    value = statistics.fmean(statistics.fmean(items) for items in scores.values())
    errors = [_stderr(items) for items in scores.values()]
    known = [e for e in errors if e is not None]
    stderr = math.hypot(*known) / len(errors) if len(known) == len(errors) else None
    count = sum(map(len, scores.values()))
    if len(scores) == 1:
        (items,) = scores.values()
        ci95 = _interval(items)
    elif stderr is None:
        ci95 = None
    else:
        half = student_t_975(count - len(scores)) * stderr
        ci95 = [max(0.0, value - half), min(1.0, value + half)]
    return {"value": value, "stderr": stderr, "ci95": ci95, "n": count}


def difference(
    first: Mapping[str, Sequence[float]], second: Mapping[str, Sequence[float]], names: tuple[str, str]
) -> dict[str, Any] | None:
    """How far two models are apart on the same items, each item's difference being one observation: the first's `value` minus the second's.

    Args:
        first: a model's score of every item, by part, as `evaluate` gives it in `each`.
        second: those of the model that it is set against, of the same items in the same order.
        names: what the two are called in the sentence.

    Returns:
        See `Difference.json` (from 0 to 1), and the sentence `in_words`, in percentage points; None where a part has one item only.
    """
    gaps = {part: [a - b for a, b in zip(first[part], second[part], strict=True)] for part in first}
    if min(map(len, gaps.values())) < 2:
        return None

    def error(of: Mapping[str, Sequence[float]]) -> float:
        return math.hypot(*(_stderr(items) or 0.0 for items in of.values())) / len(of)

    value, n = statistics.fmean(statistics.fmean(items) for items in gaps.values()), sum(map(len, gaps.values()))
    paired, unpaired, t = error(gaps), math.hypot(error(first), error(second)), student_t_975(n - len(gaps))
    if paired < 1e-12:  # nought but for rounding
        paired = 0.0
    found = Difference(value, value - t * paired, value + t * paired, paired, unpaired, (t + Z_80) * paired, n).within(1.0)
    return {**found.json(), "in_words": found.times(100).words(*names, what="items", digits=1)}


def by_item(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The same with every item of equal weight, and what each subject's is."""
    items = [score for subject in scores.values() for score in subject]
    return {
        "value_by_item": statistics.fmean(items),
        "stderr_by_item": _stderr(items),
        "ci95_by_item": _interval(items),
        "subjects": {task.removeprefix("mmlu_"): summary({task: s}) for task, s in scores.items()},
    }


def _stderr(items: Sequence[float]) -> float | None:
    """Standard error of the mean, from the sample's standard deviation (n - 1), as lm-eval has it."""
    return statistics.stdev(items) / math.sqrt(len(items)) if len(items) > 1 else None


def _interval(items: Sequence[float]) -> list[float] | None:
    """Of a mean of values from 0 to 1, each item independent; right and wrong are told from shares of probability."""
    found = (share if {*items} <= {0.0, 1.0} else rate)([(item, 1) for item in items])
    return found.ci95 if found else None
