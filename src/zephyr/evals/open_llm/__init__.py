"""Academic tasks as the Open LLM Leaderboard (version 1) ran them, through lm-eval.

| task          | shots | metric   | what it is                                                                        |
|---------------|-------|----------|-----------------------------------------------------------------------------------|
| arc_challenge | 25    | acc_norm | the likeliest answer, log-likelihood divided by its length in characters          |
| hellaswag     | 10    | acc_norm | the same, for the ending of a story                                               |
| mmlu          | 5     | acc      | the likeliest letter; the mean over subjects, as published, and over items        |
| truthfulqa    | 0     | mc2      | the share of probability on true answers; its prompt opens with six fixed examples |

Prompts, preprocessing and metrics are lm-eval's own tasks, read from the installed package; only the rows are ours, and
the model beneath: what prompts begin alike goes through it once. No chat template is applied. Few-shot examples are
drawn as lm-eval draws them, by one random stream a task, so that equal rows and seed give the prompts that lm-eval
gives: MMLU's are the first five of the subject, for the others each item gets its own, or with `first_n` the first.
"""

from zephyr.evals.open_llm.benchmarks import BENCHMARKS, Benchmark, Part, Plan, Sampler, plan, plans, texts_of
from zephyr.evals.open_llm.harness import catalog, tasks
from zephyr.evals.open_llm.score_files import score_files
from zephyr.evals.open_llm.scores import Each, difference, evaluate

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Each",
    "Part",
    "Plan",
    "Sampler",
    "catalog",
    "difference",
    "evaluate",
    "plan",
    "plans",
    "score_files",
    "tasks",
    "texts_of",
]
