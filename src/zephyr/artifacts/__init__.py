"""An artifact: a folder with data and a manifest, written aside, checked, and published in one rename.

    OUT/manifest.json            what it is, from what, with which settings, sha256 of every file
    OUT/data/SPLIT-00000.parquet rows
    OUT/dropped/dropped.jsonl    rows that were left out, each with its reason
    OUT/changed/truecased.jsonl  texts that were changed, before and after
    OUT/model/                   a plain Hugging Face model folder

It is the only thing that passes between stages. A folder without a manifest is not an artifact: the manifest
is written last, so whatever a crash leaves behind is never mistaken for a result.

manifest    what it is and where it comes from
published   one that is there, and what it holds
writing     one that is being written
publishing  how it gets its name, and what is done after a crash
"""

from zephyr.artifacts.manifest import MANIFEST, Manifest, TornManifestError, key_of
from zephyr.artifacts.published import Artifact
from zephyr.artifacts.publishing import draft, has_checkpoints, recover
from zephyr.artifacts.writing import Draft, checkpoints_of

__all__ = [
    "MANIFEST",
    "Artifact",
    "Draft",
    "Manifest",
    "TornManifestError",
    "checkpoints_of",
    "draft",
    "has_checkpoints",
    "key_of",
    "recover",
]
