"""One stage on plain files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zephyr.cli.base import Against, Files, Json, Model, Out, Overrides, RecipeSeed, Seed, Template, Test, app, show
from zephyr.errors import UsageError


def one_stage(name: str, section: str, inputs: dict[str, list[str]], out: Path, json: bool, **rest: Any) -> None:
    """One stage; `key=value` among the files of its first input are settings."""
    from zephyr import api

    main = next(iter(inputs))
    settings = [text for text in inputs[main] if "=" in text and not Path(text).exists()]
    files = {**inputs, main: [text for text in inputs[main] if text not in settings]}
    result = api.stage(name, section, files, out, settings=settings, **rest)
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr synthesize --recipe my.yaml --out data/dialogues world.count=500` · "
    "`zephyr synthesize --copy-prompts my-prompts`, then edit them, and set synthesize.prompts"
)
def synthesize(
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write.")] = None,
    recipe: Annotated[Path | None, typer.Option("--recipe", help="The recipe whose `synthesize` section says what and by whom.")] = None,
    copy_prompts: Annotated[Path | None, typer.Option("--copy-prompts", help="Write the prompts and lists to a folder, and end.")] = None,
    seed: RecipeSeed = None,
    json: Json = False,
) -> None:
    """Have teachers write dialogues."""
    from zephyr import api
    from zephyr.errors import UsageError

    if copy_prompts is not None:
        from zephyr.synthesis import texts

        names = texts.copy_to(copy_prompts)
        show({"folder": str(copy_prompts), "files": names}, as_json=json, text=f"wrote {len(names)} files to {copy_prompts}")
        return
    if recipe is None or out is None:
        raise UsageError("synthesize: needs --recipe and --out (or --copy-prompts FOLDER)")
    result = api.synthesize(recipe, out, settings=overrides or [], seed=seed)
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr curate dialogues.jsonl --out data/curated test_fraction=0.05` · "
    "`zephyr curate raw/ --out data/curated --against mt_bench.jsonl invalid=drop filters=default near_prompts={} select.target=200000`"
)
def curate(
    files: Files,
    out: Out,
    test: Test = None,
    against: Against = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do it with a sample of the data, and say what became of it.")] = False,
    json: Json = False,
) -> None:
    """Check dialogues, leave out what is wrong or doubled, divide into train and test."""
    one_stage("curate", "curate", {"dialogues": files}, out, json, test=test, against=against or [], dry_run=dry_run)


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
    epilog="Examples: `zephyr evaluate models/dpo --on ifeval=prompts.jsonl,preferences=llmbar.jsonl --reference models/sft -o scores` · "
    "`zephyr evaluate models/dpo --on arc_challenge=arc.jsonl,truthfulqa=truthfulqa.jsonl --out scores --limit 100` (`open-llm`: all four "
    "tasks, and `ifeval`, from the hub) · `zephyr evaluate models/dpo --on mt-bench,alpaca-eval,ifeval --recipe judges.yaml --out scores "
    "--limit 10` (a teacher judges; `all`: all that the recipe names) · "
    "`zephyr evaluate --model models/dpo --sft models/sft --base BASE --dialogues data/curated --ratings data/ratings --out scores`"
)
def evaluate(
    out: Out,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="A model to measure with --on; then settings, as `section.key=value`.", show_default=False)
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Benchmarks, with commas, as NAME or NAME=FILE: ifeval, preferences, open-llm or one of its tasks (arc_challenge, "
            "hellaswag, mmlu, truthfulqa); with a recipe, mt-bench, alpaca-eval and all.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="With --on: whose `judge` and `evaluate` name files and judge; needed where one judges.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="With --on: so many questions of each, for a quick look.")] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", help="With --on preferences: the model that it was trained from.", show_default=False)
    ] = None,
    reward_model: Annotated[
        str | None, typer.Option("--reward-model", help="With --on preferences: measured beside it.", show_default=False)
    ] = None,
    trained_on: Annotated[
        list[str] | None,
        typer.Option("--trained-on", help="With --on: what it was trained on, to look for the benchmarks in; of artifacts it is known."),
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="The model before any training.")] = None,
    sft: Annotated[str | None, typer.Option("--sft", help="The dSFT model.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The dDPO model.")] = None,
    dialogues: Annotated[list[str] | None, typer.Option("--dialogues", help="Test dialogues.")] = None,
    ratings: Annotated[list[str] | None, typer.Option("--ratings", help="Test ratings, or pairs.")] = None,
    chat_template: Template = "zephyr",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Measure a model on benchmarks; or a base, its dSFT and its dDPO model on test rows."""
    from zephyr import api

    words = overrides or []
    if on is not None:
        models = [word for word in words if "=" not in word or Path(word).expanduser().is_dir()]
        if len(models) != 1:
            raise UsageError("evaluate --on: needs one model: zephyr evaluate MODEL --on ifeval=prompts.jsonl --out scores")
        result = api.benchmark(
            models[0],
            [name.strip() for name in on.split(",")],
            recipe,
            out,
            limit=limit,
            settings=[word for word in words if word != models[0]],
            reference=reference,
            reward_model=reward_model,
            trained_on=trained_on or [],
        )
    elif base is None:
        raise UsageError("evaluate: needs --base, the model before any training; or a model and --on with the names of benchmarks")
    else:
        result = api.evaluate(
            out,
            {"base": base, "dsft": sft, "ddpo": model},
            dialogues=dialogues or [],
            ratings=ratings or [],
            settings=words,
            chat_template=chat_template,
            seed=seed,
        )
    show(result, as_json=json, text=api.describe(result))


@app.command(epilog="Examples: `zephyr report runs/demo --out page` · `zephyr report runs/a runs/b --out side-by-side --json`")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The folder of a run; others are set against the first.")],
    out: Out,
    title: Annotated[str | None, typer.Option(help="The page's title.")] = None,
    json: Json = False,
) -> None:
    """Write the page and the model card of a run; or one page that sets several runs side by side."""
    from zephyr import api

    result = api.report(runs[0] if len(runs) == 1 else runs, out, title)
    show(result, as_json=json, text=api.describe(result))


@app.command(
    epilog="Examples: `zephyr trace runs/demo 1f0a3c9e` · `zephyr trace runs/demo 'sky blue' --json` · "
    "`zephyr trace runs/demo 'mt-bench 81'`"
)
def trace(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    prompt: Annotated[str, typer.Argument(help="A prompt's id, its beginning or its words; or `mt-bench QUESTION`, `alpaca-eval NUMBER`.")],
    json: Json = False,
) -> None:
    """Follow a prompt from the numbers it went into back to its answers, their ratings, and the raw replies of the teachers."""
    from zephyr import api
    from zephyr.report import telling

    found = api.trace(run, prompt)
    text = telling.describe_judged(found) if "verdicts" in found else telling.describe(found)
    show(found, as_json=json, text=text)
