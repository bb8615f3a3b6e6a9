"""The manifest: what an artifact is, from what, with which settings, and the sha256 of every file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zephyr.errors import ArtifactError
from zephyr.hashes import canonical, sha256_text

FORMAT = 1
MANIFEST = "manifest.json"


class TornManifestError(ArtifactError):
    """A manifest that is no JSON: what a crash or a bad disk makes of one of ours."""


@dataclass
class FileEntry:
    """What the manifest says of one file."""

    sha256: str
    bytes: int
    mtime_ns: int


@dataclass
class Manifest:
    """What an artifact is and where it comes from.

    `key` hashes what went in (stage, version, settings, inputs); `digest` hashes what came out. A stage whose
    key is already there is not run again; a stage whose inputs' digests did not change has the same key.
    """

    stage: str
    key: str
    config: dict[str, Any]
    parents: dict[str, dict[str, str]]
    digest: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)
    rows_in: int = 0
    rows_out: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    results: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    zephyr: str = ""
    format: int = FORMAT

    @staticmethod
    def read(folder: Path) -> Manifest | None:
        """The manifest in a folder, or None where there is none.

        Raises:
            TornManifestError: the file is there and is no JSON.
            ArtifactError: it cannot be read, or is not a manifest this version reads.
        """
        path = folder / MANIFEST
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArtifactError(
                f"{path}: not a readable manifest ({error.strerror or error}); make it readable, or name another folder"
            ) from None
        except (ValueError, RecursionError) as error:
            raise TornManifestError(f"{path}: not a readable manifest ({error}); remove {folder} to make it again") from None
        if not isinstance(raw, dict) or "format" not in raw:
            # nobody should be told to remove data that merely has a file of this name
            raise ArtifactError(f"{path}: manifest format None, not that of an artifact; if {folder} is your data, name its files instead")
        if raw["format"] != FORMAT:
            raise ArtifactError(f"{path}: manifest format {raw['format']!r}, this version reads {FORMAT}; remove {folder} to make it again")
        try:
            raw["files"] = {name: FileEntry(**entry) for name, entry in raw["files"].items()}
            manifest = Manifest(**raw)
            for name in ("config", "parents", "rows_out", "dropped", "results", "environment"):
                if not isinstance(raw.get(name, {}), dict):
                    raise TypeError(f"`{name}` is not an object")
            return manifest
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}: damaged manifest ({error}); remove {folder} to make it again") from None

    def json(self) -> str:
        """The manifest as it is written."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def key_of(stage: str, version: int, config: Mapping[str, Any], parents: Mapping[str, str]) -> str:
    """The name of a piece of work: sha256 over the stage, its version, its settings and its inputs' digests."""
    return sha256_text(canonical({"stage": stage, "version": version, "config": dict(config), "parents": dict(parents)}))


def digest_of(files: Mapping[str, FileEntry]) -> str:
    """The name of a result: sha256 over its files' names and contents, without the dropped rows and the logs."""
    content = {name: f.sha256 for name, f in files.items() if name.startswith(("data/", "model/"))}
    return sha256_text(canonical(content or {name: f.sha256 for name, f in files.items()}))
