"""How much of a benchmark is among the prompts that a model was trained on: beside every score, where the training data is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zephyr import hashes, sources
from zephyr.artifacts import Draft, Manifest
from zephyr.errors import DataError
from zephyr.evals.hygiene import Match, beside_the_score, contaminated
from zephyr.recipe import DataSource
from zephyr.records import Row
from zephyr.text.contamination import KINDS, prompts_of

INPUT = "trained on"  # what the names of a stage's inputs begin with that are training data
_WRITTEN = {"mt_bench": "mt-bench", "alpaca_eval": "alpaca-eval"}  # a set's own name stays as it is
SHOWN = 20  # matches that are kept
MOST_STAGES = 10  # that a model is followed back through
Items = Mapping[str, Sequence[str]]  # by its id, the texts of a benchmark's item


def training_prompts(data: Mapping[str, Sequence[DataSource]]) -> Iterator[tuple[str, str]]:
    """(place, text) of everything a user says in the rows of train splits.

    Args:
        data: a stage's inputs; those are read whose names begin with `trained on`.

    Raises:
        DataError: a row without a prompt.
    """
    for name, given in data.items():
        for source in given if name.startswith(INPUT) else ():
            for where, split, row in sources.rows(source):
                if split == "test":
                    continue
                turns = next((row[key] for key in ("messages", "chosen") if isinstance(row.get(key), list | tuple) and row[key]), None)
                try:
                    texts = prompts_of(row if turns is None else {"messages": turns})
                except DataError as error:
                    raise DataError(f"{where}: {error}") from None
                yield from ((where, text) for text in texts)


def beside(
    data: Mapping[str, Sequence[DataSource]], benchmarks: Mapping[str, Items], not_at_hand: Sequence[str] = ()
) -> dict[str, Row] | None:
    """For each benchmark, how many of its items are in the training data; None where no training data is among the inputs.

    Args:
        data: a stage's inputs, as for `training_prompts`.
        benchmarks: the items of each.
        not_at_hand: what else was trained on, in words, and could not be looked in.

    Returns:
        By benchmark `items`, `found`, its parts `exact`, `normalised` and `ngram` (see `text.contamination`), the sentence
        `in_words`, what is `not_at_hand`, and the first `matches`.
    """
    if not any(name.startswith(INPUT) for name in data):
        return None
    owners = {f"{benchmark}\n{item}": (benchmark, item) for benchmark, items in benchmarks.items() for item in items}
    found = contaminated(training_prompts(data), {key: benchmarks[b][item] for key, (b, item) in owners.items()})
    return {
        name: _of_one(
            name, len(items), {owners[key][1]: match for key, match in found.items() if owners[key][0] == name}, data, not_at_hand
        )
        for name, items in benchmarks.items()
    }


def _of_one(name: str, items: int, found: Mapping[str, Match], data: Mapping[str, Sequence[DataSource]], not_at_hand: Sequence[str]) -> Row:
    kinds = Counter(match.kind for match in found.values())
    return {
        "items": items,
        "found": len(found),
        **{kind: kinds[kind] for kind in KINDS},
        "in_words": beside_the_score(found, items, _WRITTEN.get(name, name)) + _limits(data, not_at_hand),
        "not_at_hand": list(not_at_hand),
        "matches": [{**match.row(), "item_id": item} for item, match in list(found.items())[:SHOWN]],
    }


def _limits(data: Mapping[str, Sequence[DataSource]], not_at_hand: Sequence[str]) -> str:
    """What the sentence does not speak for."""
    if not not_at_hand:
        return ""
    looked = dict.fromkeys(_called(source) for name, given in data.items() if name.startswith(INPUT) for source in given)
    return f"; {' and '.join(not_at_hand)} are not at hand; looked in {', '.join(looked)} only"


def _called(source: DataSource) -> str:
    path = Path(source.path).expanduser()
    manifest = Manifest.read(path) if path.is_dir() else None
    return {"curate": "the dialogues", "binarize": "the pairs"}.get(manifest.stage if manifest else "", path.name)


def note(found: Mapping[str, Row] | None, out: Draft) -> None:
    """What has to be known beside the scores: benchmarks that were trained on."""
    for one in (found or {}).values():
        if one["found"]:
            out.note(f"{one['in_words']}.")


@dataclass(frozen=True)
class Known:
    """What a model was trained on, and what more its manifests name that is gone or has changed, in words."""

    sources: list[DataSource]
    lost: list[str]


def known_training(model: str, said: Sequence[DataSource] = ()) -> Known:
    """What a model of ours was trained on, as its manifests tell: of each stage behind it the artifact of its rows, where it still is.

    Args:
        model: an artifact of sft or dpo, or the model folder in one; of anything else nothing is known.
        said: what is said to have been trained on, which is believed; it comes first.
    """
    found = {hashes.canonical(source.given()): source for source in said}
    given = {Path(source.path).expanduser().resolve() for source in said}
    lost: list[str] = []
    folder = _artifact_of(Path(model).expanduser())
    for _ in range(MOST_STAGES):
        manifest = Manifest.read(folder) if folder.is_dir() else None
        if manifest is None or manifest.stage not in ("sft", "dpo"):
            break
        for name, words in (("dialogues", "dialogues"), ("preferences", "pairs")):
            parent = manifest.parents.get(name)
            if parent is None or given >= {Path(path).expanduser().resolve() for path in parent["path"].split(", ")}:
                continue
            if rows := _still_there(parent, folder):
                found.setdefault(str(rows), DataSource(path=str(rows)))
            else:
                lost.append(f"the {words} of {manifest.stage}")
        before = manifest.parents.get("policy") or manifest.parents.get("base") or {}
        if not before:
            break
        path = Path(before["path"])
        # a run that was moved has its stages side by side all the same
        beside = folder.parent / _artifact_of(path).name
        if path.name == "model" and not (_artifact_of(path).is_dir() or beside.is_dir()):  # a stage's, and it is gone
            lost.append(f"the data of {_artifact_of(path).name}")
        folder = next((p for p in (_artifact_of(path), beside) if p.is_dir()), path)
    return Known(list(found.values()), lost)


def _artifact_of(path: Path) -> Path:
    return path.parent if path.name == "model" else path


def _still_there(parent: Mapping[str, str], folder: Path) -> Path | None:
    """The artifact that a manifest names as a parent, if it still has what it had then."""
    for path in (Path(parent["path"]), folder.parent / Path(parent["path"]).name):
        manifest = Manifest.read(path) if path.is_dir() else None
        if manifest and hashes.sha256_text(hashes.canonical([[manifest.digest, None, {}]])) == parent["digest"]:
            return path
    return None
