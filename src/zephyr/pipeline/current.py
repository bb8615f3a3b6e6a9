"""Is what stands in a stage's place made from just this? If not, why; and is it ours to replace?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr.artifacts import Artifact, Manifest, TornManifestError
from zephyr.errors import ArtifactError, UsageError
from zephyr.pipeline.work import Work

# the files of an artifact; a folder with any other in it, hidden ones too, is not ours to replace
OWN_FILES = re.compile(
    r"manifest\.json|data/\w+-\d{5}\.parquet|data/scores\.json|data/(?:mt_bench|alpaca_eval|ifeval|preferences)[\w.-]*\.jsonl?|dropped/dropped\.jsonl|changed/truecased\.jsonl|metrics\.jsonl|model/.+|report\.html|README\.md"
)


def why_not_done(work: Work, *, verify: bool = False) -> str | None:
    """None if the artifact is there and made from just this; else what is different, in words.

    Raises:
        UsageError: something that is not this stage's artifact stands in its place.
    """
    try:
        manifest = Manifest.read(work.out)
    except TornManifestError as error:
        problem = str(error).split(";")[0]
        if strange := not_ours(work.out):
            raise UsageError(f"{problem}, and {strange} is no file of an artifact, so it is not replaced; give another --out") from None
        return problem
    except ArtifactError as error:
        raise UsageError(f"{str(error).split(';')[0]}, so {work.out} is not replaced; give another --out, or remove it") from None
    if manifest is None:
        _refuse_to_replace(work.out)
        return "not there yet"
    if manifest.stage != work.stage:
        raise UsageError(f"{work.out}: holds what {manifest.stage} made, and {work.stage} would replace it; give another --out")
    if manifest.key != work.key:
        return _what_changed(manifest, work)
    return Artifact(work.out, manifest).check(verify=verify)


def not_ours(folder: Path) -> Path | None:
    """Something in a folder that no stage writes, or None."""
    files = (p for p in sorted(folder.rglob("*")) if not p.is_dir() or p.is_symlink())
    return next((p for p in files if not OWN_FILES.fullmatch(p.relative_to(folder).as_posix())), None)


def _refuse_to_replace(path: Path) -> None:
    """An artifact is published by a rename over what stood there, so what is not ours must not stand there."""
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path}: is there, not empty, and no artifact, so it is not replaced; give another --out, or remove it")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file; an artifact is a folder, give another --out")


def _what_changed(manifest: Manifest, work: Work) -> str:
    before, now = _flat(manifest.config), _flat(work.config.model_dump())
    changes = [
        f"{name} {before.get(name, 'unset')!r} -> {now.get(name, 'unset')!r}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    changes += [
        f"{name} changed" for name, p in sorted(work.parents.items()) if manifest.parents.get(name, {}).get("digest") != p["digest"]
    ]
    return ", ".join(changes) or "this version of the stage computes it differently"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat.update(_flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) and item else {f"{prefix}{name}": item})
    return flat
