"""Models measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Out, Seed, Template, app, show
from zephyr.cli.score import score_app
from zephyr.errors import UsageError

Words = Annotated[
    list[str] | None, typer.Argument(help="A model to measure with --on; then settings, as `section.key=value`.", show_default=False)
]

# --- of one model on benchmarks ----------------------------------------------------------------------------------

On = Annotated[
    list[str] | None,
    typer.Option(
        "--on",
        help="Benchmarks, with commas, as NAME or NAME=FILE: ifeval, preferences, open-llm or one of its tasks (arc_challenge, "
        "hellaswag, mmlu, truthfulqa); with a recipe, mt-bench, alpaca-eval and all; may be given more than once.",
    ),
]
Judges = Annotated[
    Path | None, typer.Option("--recipe", help="With --on: whose `judge` and `evaluate` name files and judge; needed where one judges.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="With --on: so many questions of each, for a quick look.")]
Reference = Annotated[
    str | None, typer.Option("--reference", help="With --on preferences: the model that it was trained from.", show_default=False)
]
RewardModel = Annotated[str | None, typer.Option("--reward-model", help="With --on preferences: measured beside it.", show_default=False)]
TrainedOn = Annotated[
    list[str] | None,
    typer.Option("--trained-on", help="With --on: what it was trained on, to look for the benchmarks in; of artifacts it is known."),
]

# --- of a base and what was trained of it, on test rows ----------------------------------------------------------

Base = Annotated[str | None, typer.Option("--base", help="The model before any training.")]
SFT = Annotated[str | None, typer.Option("--sft", help="The dSFT model.")]
DPO = Annotated[str | None, typer.Option("--model", "-m", help="The dDPO model.")]
Dialogues = Annotated[list[str] | None, typer.Option("--dialogues", help="Test dialogues.")]
Ratings = Annotated[list[str] | None, typer.Option("--ratings", help="Test ratings, or pairs.")]


@app.command(
    epilog="Examples: `zephyr evaluate models/dpo --on ifeval=prompts.jsonl,preferences=llmbar.jsonl --reference models/sft -o scores` · "
    "`zephyr evaluate models/dpo --on arc_challenge=arc.jsonl,truthfulqa=truthfulqa.jsonl --out scores --limit 100` (`open-llm`: all four "
    "tasks, and `ifeval`, from the hub) · `zephyr evaluate models/dpo --on mt-bench,alpaca-eval,ifeval --recipe judges.yaml --out scores "
    "--limit 10` (a teacher judges; `all`: all that the recipe names) · "
    "`zephyr evaluate --model models/dpo --sft models/sft --base BASE --dialogues data/curated --ratings data/ratings --out scores`"
)
def evaluate(
    out: Out,
    overrides: Words = None,
    on: On = None,
    recipe: Judges = None,
    limit: Limit = None,
    reference: Reference = None,
    reward_model: RewardModel = None,
    trained_on: TrainedOn = None,
    base: Base = None,
    sft: SFT = None,
    model: DPO = None,
    dialogues: Dialogues = None,
    ratings: Ratings = None,
    chat_template: Template = "zephyr",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure a model on benchmarks; or a base, its dSFT and its dDPO model on test rows."""
    from zephyr import api
    from zephyr.evals import in_words
    from zephyr.progress import say
    from zephyr.recipe import known

    words = overrides or []
    if on:
        one = _one_model(words)
        result = api.benchmark(
            one,
            [name for names in on for name in known.parted(names)],
            recipe,
            out,
            limit=limit,
            settings=[word for word in words if word != one],
            reference=reference,
            reward_model=reward_model,
            trained_on=trained_on or [],
        )
        for note in in_words.notes(result, shown=not json):
            say(f"note: {note}")
    elif base is None:
        raise UsageError("evaluate: needs --base, the model before any training; or a model and --on with the names of benchmarks")
    else:
        models = {"base": base, "dsft": sft, "ddpo": model}
        rows = {"dialogues": dialogues or [], "ratings": ratings or []}
        result = api.evaluate(out, models, **rows, settings=words, chat_template=chat_template, seed=seed)
    show(result, as_json=json, text=api.describe(result))


def _one_model(words: list[str]) -> str:
    """The one among the words that is no setting."""
    models = [word for word in words if "=" not in word or Path(word).expanduser().is_dir()]
    if len(models) != 1:
        raise UsageError("evaluate --on: needs one model: zephyr evaluate MODEL --on ifeval=prompts.jsonl --out scores")
    return models[0]


# --- of files that lm-eval has written ---------------------------------------------------------------------------


@score_app.command(
    "open-llm",
    epilog="Examples: `zephyr score open-llm results/my-model --json` · `zephyr score open-llm samples_hellaswag_2026-11-22.jsonl.gz` · "
    "`zephyr score open-llm run/evaluate/data/lm_eval/ddpo --against run/evaluate/data/lm_eval/dsft`",
)
def open_llm(
    files: Annotated[
        list[Path], typer.Argument(help="Samples (samples_TASK_DATE.jsonl, `.gz` too), results (.json), or the folder of one model's.")
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", help="A second model's, for the paired differences; may be given more than once.", show_default=False),
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score the samples there are, where some are missing; they are counted.")
    ] = False,
    json: Json = False,
) -> None:
    """ARC, HellaSwag, MMLU and TruthfulQA from files of lm-eval: scores with intervals, and paired differences of two models."""
    from zephyr.evals import open_llm as evaluation
    from zephyr.evals.open_llm import show as words
    from zephyr.progress import say

    found = evaluation.score_files(files, against=against or [], partial=partial)
    for warning in found["warnings"]:
        say(f"note: {warning}")
    show(found, as_json=json, text=words.describe(found))
