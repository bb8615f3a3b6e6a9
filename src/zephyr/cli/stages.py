"""One stage on plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zephyr.cli.base import Against, Files, Json, Model, Out, Overrides, RecipeSeed, Seed, Template, Test, app, show


def one_stage(name: str, section: str, inputs: dict[str, list[str]], out: Path, json: bool, **rest: Any) -> None:
    """One stage; `key=value` among the files of its first input are settings."""
    from zephyr import api

    main = next(iter(inputs))
    settings = [text for text in inputs[main] if "=" in text and not Path(text).exists()]
    files = {**inputs, main: [text for text in inputs[main] if text not in settings]}
    result = api.stage(name, section, files, out, settings=settings, **rest)
    show(result, as_json=json, text=api.describe(result))


@app.command(epilog="Example: `zephyr curate dialogues.jsonl --out data/curated test_fraction=0.05`")
def curate(files: Files, out: Out, test: Test = None, json: Json = False) -> None:
    """Check dialogues, drop duplicates, divide into train and test."""
    one_stage("curate", "curate", {"dialogues": files}, out, json, test=test)


@app.command(epilog="Example: `zephyr sft data/curated --model path/to/model --out models/sft epochs=1 learning_rate=2e-5`")
def sft(
    files: Files, model: Model, out: Out, test: Test = None, chat_template: Template = "zephyr", seed: Seed = 0, json: Json = False
) -> None:
    """Fine-tune a model on dialogues (dSFT)."""
    one_stage("sft", "sft", {"dialogues": files}, out, json, test=test, model=model, chat_template=chat_template, seed=seed)


@app.command(epilog="Example: `zephyr complete prompts.jsonl --recipe my.yaml --out data/completions`")
def complete(
    files: Files,
    out: Out,
    recipe: Annotated[Path, typer.Option("--recipe", help="The recipe whose `complete` section names the pool.")],
    test: Test = None,
    seed: RecipeSeed = None,
    json: Json = False,
) -> None:
    """Have several models of a pool answer each prompt."""
    one_stage("complete", "complete", {"prompts": files}, out, json, test=test, recipe=recipe, seed=seed)


@app.command(epilog="Example: `zephyr rate data/completions --recipe my.yaml --out data/ratings`")
def rate(
    files: Files,
    out: Out,
    recipe: Annotated[Path, typer.Option("--recipe", help="The recipe whose `rate` section names the teacher.")],
    test: Test = None,
    seed: RecipeSeed = None,
    json: Json = False,
) -> None:
    """Have a teacher score every answer."""
    one_stage("rate", "rate", {"completions": files}, out, json, test=test, recipe=recipe, seed=seed)


@app.command(
    epilog="Examples: `zephyr binarize ratings.jsonl --out data/preferences score=overall rejected=random` · "
    "`zephyr binarize ratings.jsonl --out data/preferences --against mt_bench.jsonl`"
)
def binarize(files: Files, out: Out, test: Test = None, against: Against = None, seed: Seed = 0, json: Json = False) -> None:
    """Make pairs of rated answers, or check ready-made pairs."""
    one_stage("binarize", "binarize", {"ratings": files}, out, json, test=test, seed=seed, against=against or [])


@app.command(epilog="Example: `zephyr reference data/preferences --model models/sft --out data/references`")
def reference(files: Files, model: Model, out: Out, test: Test = None, chat_template: Template = "tokenizer", json: Json = False) -> None:
    """Compute the frozen model's log-probabilities of both answers of every pair."""
    one_stage("reference", "dpo", {"preferences": files}, out, json, test=test, model=model, chat_template=chat_template)


@app.command(epilog="Example: `zephyr dpo data/preferences --references data/references --model models/sft --out models/dpo beta=0.1`")
def dpo(
    files: Files,
    references: Annotated[str, typer.Option("--references", help="What `zephyr reference` wrote for these pairs and this model.")],
    model: Model,
    out: Out,
    test: Test = None,
    chat_template: Template = "tokenizer",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train a model on preferences (dDPO)."""
    inputs = {"preferences": files, "references": [references]}
    one_stage("dpo", "dpo", inputs, out, json, test=test, model=model, chat_template=chat_template, seed=seed)


@app.command(
    epilog="Example: `zephyr evaluate --model models/dpo --sft models/sft --base BASE --dialogues data/curated "
    "--ratings data/ratings --out scores`"
)
def evaluate(
    out: Out,
    base: Annotated[str, typer.Option("--base", help="The model before any training.")],
    sft: Annotated[str | None, typer.Option("--sft", help="The dSFT model.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The dDPO model.")] = None,
    dialogues: Annotated[list[str] | None, typer.Option("--dialogues", help="Test dialogues.")] = None,
    ratings: Annotated[list[str] | None, typer.Option("--ratings", help="Test ratings, or pairs.")] = None,
    overrides: Overrides = None,
    chat_template: Template = "zephyr",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure models on test rows, and on academic tasks."""
    from zephyr import api

    result = api.evaluate(
        out,
        {"base": base, "dsft": sft, "ddpo": model},
        dialogues=dialogues or [],
        ratings=ratings or [],
        settings=overrides or [],
        chat_template=chat_template,
        seed=seed,
    )
    show(result, as_json=json, text=api.describe(result))


@app.command(epilog="Example: `zephyr report runs/demo --out page`")
def report(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Out,
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    json: Json = False,
) -> None:
    """Write the page and the model card of a run."""
    from zephyr import api

    result = api.report(run_dir, out, title)
    show(result, as_json=json, text=api.describe(result))
