"""Recipes: one in full, two beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zephyr.cli.base import Json, Overrides, app, show

recipe_app = typer.Typer(no_args_is_help=True, help="Recipes: one in full, two beside each other.")
app.add_typer(recipe_app, name="recipe")

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]


@recipe_app.command("show", epilog="Example: `zephyr recipe show my.yaml`")
def recipe_show(recipe: RecipeFile, overrides: Overrides = None, json: Json = False) -> None:
    """A recipe with every setting it has, those left to their defaults too, each with what it means. It can be run as it is printed."""
    from zephyr import recipes
    from zephyr.recipe import load
    from zephyr.recipes.flat import settings

    found = load(recipe, overrides or [])
    listed = [{"setting": s.path, "value": s.value, "about": s.about} for s in settings(found)]
    show({"name": found.name, "settings": listed}, as_json=json, text=recipes.shown(found).rstrip("\n"))


@recipe_app.command("diff", epilog="Example: `zephyr init paper.yaml --from paper`, then `zephyr recipe diff paper.yaml my.yaml`")
def recipe_diff(
    a: Annotated[Path, typer.Argument(help="A recipe.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    json: Json = False,
) -> None:
    """What differs between two recipes, in words: what it was, what it is, what it means, and what it does to cost."""
    from zephyr import recipes
    from zephyr.recipe import load

    first, second = load(a), load(b)
    found = recipes.compare(first, second)
    show(found, as_json=json, text=recipes.describe(found, first, second))
