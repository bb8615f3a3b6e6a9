"""An export as a whole: found, written aside, read back, and published in one rename with a manifest of what was made from what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from zephyr import artifacts, hashes
from zephyr.artifacts import Artifact, Draft, Manifest
from zephyr.errors import ArtifactError, UsageError
from zephyr.export import check, folder, gguf
from zephyr.export.source import Source, open_model
from zephyr.guards import locked, sigterm_interrupts
from zephyr.progress import say

STAGE, VERSION = "export", 2  # 2: a head that differs from the embeddings it was tied to is kept
CARD = "README.md"
TARGETS = ("safetensors", "gguf")
DTYPES = {"safetensors": ("bfloat16", "float16", "float32"), "gguf": tuple(gguf.FORMATS)}


def export(model: str, out: str | Path, *, to: str, dtype: str = "bfloat16", revision: str | None = None) -> dict[str, Any]:
    """Write a model in another form, read it back, and publish it.

    Args:
        model: a folder, an artifact, a hub name or a name of `zephyr models list`.
        out: the folder to write; one that an earlier export wrote is replaced once the new one is whole.
        to: one of `TARGETS`.
        dtype: one of its `DTYPES`.
        revision: of a model on the hub.

    Returns:
        `path`, `status` (`done` if just this is there already), `files` with their bytes, `parameters`, `notes`, and what was `checked`.

    Raises:
        UsageError: a target or number format that there is not; or something else stands where it would be written.
        ModelError: the model cannot be read, or not be written in that form such that it stays what it is.
    """
    if to not in TARGETS:
        raise UsageError(f"--to {to}: not known; known are {', '.join(TARGETS)}")
    if dtype not in DTYPES[to]:
        raise UsageError(f"--dtype {dtype}: not a number format of {to}; it has {', '.join(DTYPES[to])}")
    source, out = open_model(model, revision), Path(out).expanduser()
    _refuse_place(out, source)
    key = artifacts.key_of(STAGE, VERSION, {"to": to, "dtype": dtype}, {"model": source.ref.digest})
    with locked(out.with_name(f".{out.name}.lock")), sigterm_interrupts():
        artifacts.recover(out)
        there = Manifest.read(out)
        if there is not None and there.key == key and problem_of(out, there) is None:
            return _described(out, there, "done")
        _refuse_to_replace(out, there)
        parents = {"model": {"path": source.ref.name, "digest": source.ref.digest, **({"revision": revision} if revision else {})}}
        with artifacts.draft(out, stage=STAGE, key=key, config={"to": to, "dtype": dtype}, parents=parents) as draft:
            say(f"  writing {source.name} as {to}, {dtype}")
            (_gguf if to == "gguf" else _folder)(source, draft, dtype)
            draft.manifest.results["parameters"] = sum(_count(shape) for shape in source.shapes.values())
    manifest = Manifest.read(out)
    assert manifest is not None  # it has just been published
    return _described(out, manifest, "ran")


def problem_of(path: Path, manifest: Manifest) -> str | None:
    """What is wrong with the files of an export, None where nothing is. Its card may have been edited: that is what it is there for."""
    card = path / CARD
    edited = card.is_file() and not card.is_symlink()  # a link may lead to what is not meant to be sent
    files = {name: entry for name, entry in manifest.files.items() if name != CARD or not edited}
    return Artifact(path, replace(manifest, files=files)).check()


def _folder(source: Source, draft: Draft, dtype: str) -> None:
    folder.write(source, draft.path, dtype)
    template = gguf.template_of(source.tokenizer)
    written = folder.tokenizer_of(draft.path)
    check.refuse_other_texts(check.renderings(source.tokenizer, template), check.renderings(written, gguf.template_of(written)))
    texts = [*check.TEXTS, *filter(None, check.renderings(source.tokenizer, template))]
    _refuse_other_ids(source, texts, lambda text: written(text, add_special_tokens=False, verbose=False)["input_ids"])
    _say_checked(draft, template, texts)


def _gguf(source: Source, draft: Draft, dtype: str) -> None:
    made = gguf.write(source, draft.path, dtype)
    tokens, template, names = gguf.read_back(made.path)
    before = check.renderings(source.tokenizer, gguf.template_of(source.tokenizer))
    check.refuse_other_texts(before, gguf.dialogues_of(tokens, template))
    texts = [*check.TEXTS, *filter(None, before)]
    _refuse_other_ids(source, texts, tokens.encode)
    if len(names) != len(source.shapes):
        raise ArtifactError(f"{made.path.name}: {len(names)} weights were written of {len(source.shapes)}; nothing was kept")
    for note in made.notes:
        draft.note(note)
        say(f"  {note}")
    folder.copy_beside(source, draft.path, only="README")
    _say_how_it_is_used(draft.path / CARD, made.path.name)
    folder.copy_beside(source, draft.path, only="LICENSE")
    _say_checked(draft, template, texts)


def _say_how_it_is_used(card: Path, file: str) -> None:
    """A card of ours tells of a folder for transformers; of one with a GGUF file it is to tell of that."""
    from zephyr.report.card import USE

    if card.exists() and USE.encode() in (text := card.read_bytes()):  # somebody's own may be in any encoding
        text = text.replace(USE.encode(), f"```sh\nllama-cli -m {file}\n```".encode()).replace(b"library_name: transformers\n", b"", 1)
        card.write_bytes(text)


def _refuse_other_ids(source: Source, texts: list[str], encode: check.Encode) -> None:
    def before(text: str) -> list[int]:
        return list(source.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    if (wrong := check.differing(texts, before, encode)) is not None:
        raise ArtifactError(f"{source.name}: what was written cuts {wrong[:60]!r} otherwise than the model's tokenizer; nothing was kept")


def _say_checked(draft: Draft, template: str | None, texts: list[str]) -> None:
    draft.manifest.results["checked"] = {"dialogues": len(check.DIALOGUES) * 2 if template else 0, "texts": len(texts)}


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _refuse_place(out: Path, source: Source) -> None:
    if not out.name:
        raise UsageError(f"{out}: --out needs a folder with a name of its own")
    here, there = out.resolve(), source.folder.resolve()
    if here in (there, *there.parents) or there in here.parents:
        raise UsageError(f"{out}: is where the model itself is; give another --out")


def _refuse_to_replace(out: Path, manifest: Manifest | None) -> None:
    """What an earlier export wrote may go; nothing else that stands there may."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; an export is a folder, give another --out")
    if manifest is not None and manifest.stage != STAGE:
        raise UsageError(f"{out}: holds what {manifest.stage} made, and an export would replace it; give another --out")
    if not out.is_dir():
        return
    if _is_edited(out, manifest):
        raise UsageError(f"{out / CARD}: was edited, and an export would replace it; give another --out, or move the card away first")
    ours = {artifacts.MANIFEST, *(manifest.files if manifest else ())}
    if manifest is not None and CARD not in ours and (out / CARD).exists():  # the model had none, so somebody wrote one
        raise UsageError(
            f"{out / CARD}: was written since, and an export would replace it; give another --out, or move the card away first"
        )
    if strange := next((p for p in sorted(out.rglob("*")) if p.is_file() and p.relative_to(out).as_posix() not in ours), None):
        raise UsageError(f"{strange}: is no file of an export, so {out} is not replaced; give another --out, or move it away")


def _is_edited(out: Path, manifest: Manifest | None) -> bool:
    entry = manifest.files.get(CARD) if manifest else None
    return entry is not None and (out / CARD).is_file() and hashes.sha256_file(out / CARD) != entry.sha256


def _described(out: Path, manifest: Manifest, status: str) -> dict[str, Any]:
    return {
        "path": str(out),
        "status": status,
        **manifest.config,
        "files": {name: entry.bytes for name, entry in manifest.files.items()},
        "parameters": manifest.results["parameters"],
        "checked": manifest.results["checked"],
        "notes": manifest.notes,
        "digest": manifest.digest,
        "made_from": manifest.parents["model"],
    }
