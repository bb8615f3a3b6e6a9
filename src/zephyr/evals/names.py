"""What a model is called that is measured by itself: by its folder or hub name, not `base`, which says what it is in a run that trains."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from zephyr import artifacts
from zephyr.errors import ArtifactError

TAKEN = ("canary", "length", "reward_model")  # what the tables know others under


def of_models(paths: Mapping[str, str], taken: Collection[str] = ()) -> dict[str, str]:
    """A name for each model, fit for a file's: the last part of its path, or as many as tell it from the others.

    Args:
        paths: folders, artifacts or hub names, by what we know the models under.
        taken: names that are others', beside those that always are.
    """
    parts = {key: _parts(path) for key, path in paths.items()}
    others = {*TAKEN, *taken}
    for depth in range(1, 1 + max(map(len, parts.values()), default=0)):
        names = {key: _safe("-".join(part[-depth:])) for key, part in parts.items()}
        if len(set(names.values())) == len(names) and not others & set(names.values()):
            return names
    return {key: f"{_safe('-'.join(part[-1:]))}-{key}" for key, part in parts.items()}


def beside(path: Path, taken: Collection[str]) -> dict[str, str]:
    """What models are called by the artifact of ours that a file is of (FOLDER/data/FILE), but for names `taken`; {} of other files."""
    try:
        manifest = artifacts.Manifest.read(path.expanduser().resolve().parent.parent)
    except ArtifactError:  # a manifest of something else
        return {}
    names = manifest.results.get("names") if manifest else None
    return {model: str(name) for model, name in names.items() if name not in taken} if isinstance(names, dict) else {}


def _parts(name: str) -> list[str]:
    path = Path(name).expanduser()
    if not path.is_dir():
        return name.split("/")
    path = (path.resolve() if path.name in ("", "..") else path).absolute()  # a link's own name is what it was given for
    if path.name == "model" and (path.parent / artifacts.MANIFEST).exists():
        path = path.parent
    return list(path.parts[1:])


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("._-") or "model"
