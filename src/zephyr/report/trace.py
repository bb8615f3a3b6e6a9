"""From a number back to what it was made of: a prompt, its answers, what each was rated, the pair, and what the models make of them.

Everything is read from the artifacts as they lie there; the raw replies of teachers, which lie in the journal, are added by who asks.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zephyr.artifacts import Artifact
from zephyr.errors import UsageError
from zephyr.records import ASPECTS, Row, parse_preference, seeded_unit

Artifacts = Mapping[str, Artifact]
Chain = dict[str, Any]
COUNTED = ("binarize", "reference", "evaluate")  # whose rows about a prompt are shown beside its answers
SOURCES = ("rate", "complete", "binarize", "curate")  # where prompts stand, the fullest first
NAMED = 5  # prompts that are named where several fit


def find(artifacts: Artifacts, wanted: str) -> str:
    """The id of the one prompt that is meant.

    Args:
        artifacts: of a run, by stage.
        wanted: an id, or how one begins (8 characters at least), or words of the prompt.

    Raises:
        UsageError: none is meant, or several.
    """
    ids: dict[str, str] = {}
    words: dict[str, str] = {}
    for stage in (name for name in SOURCES if name in artifacts):
        for _, row in _rows(artifacts[stage]):
            prompt_id, prompt = row.get("prompt_id") or "", row.get("prompt") or ""
            if prompt_id == wanted:
                return wanted
            if len(wanted) >= 8 and prompt_id.startswith(wanted):
                ids[prompt_id] = prompt
            elif wanted.casefold() in prompt.casefold():
                words[prompt_id] = prompt
        if ids or words:
            break  # a dialogue that begins alike is not meant where there is feedback
    found = ids or words
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise UsageError(f"{wanted!r}: no prompt of this run has that id, or these words; ids stand in the rows as `prompt_id`")
    shown = ", ".join(f"{i[:12]} ({_short(prompt)!r})" for i, prompt in list(found.items())[:NAMED])
    raise UsageError(f"{wanted!r}: {len(found)} prompts fit; give the id of one: {shown}{', …' if len(found) > NAMED else ''}")


def _short(text: str, size: int = 50) -> str:
    return textwrap.shorten(text, size, placeholder="…")


def _rows(artifact: Artifact) -> Iterator[tuple[str, Row]]:
    for split in artifact.splits():
        yield from ((split, row) for row in artifact.each_row(split))


def _of(artifacts: Artifacts, stage: str, value: str, *, column: str = "prompt_id") -> list[tuple[str, Row]]:
    """(split, row) of every row of a stage that is about the prompt; without reading the others."""
    import pyarrow.parquet as pq

    found = []
    artifact = artifacts.get(stage)
    for split in artifact.splits() if artifact else ():
        assert artifact is not None
        for path in sorted((artifact.path / "data").glob(f"{split}-*.parquet")):
            if column in pq.read_schema(path).names:
                found += [(split, row) for row in pq.read_table(path, filters=[(column, "==", value)]).to_pylist()]
    return found


def chain(artifacts: Artifacts, prompt_id: str) -> Chain:
    """Everything the run has of a prompt.

    Returns:
        `prompt`, `prompt_id`, `split`, `category`; `answers` (model, response, ratings, critique, `part` in the pair, `rewards` by model);
        `pairs` (scores, ranks, reference log-probabilities); `left_out` (stage, reason); `measured` (what the evaluation counted of it);
        `samples` (what the models answer themselves); `dialogue` (messages that were learnt); `made_by` (stage: its digest);
        `gone` (stages whose rows are no longer in their folder, so that nothing is said of them).
    """
    feedback = _of(artifacts, "rate", prompt_id) or _of(artifacts, "complete", prompt_id)
    pairs, dialogues = _of(artifacts, "binarize", prompt_id), _of(artifacts, "curate", prompt_id)
    split, row = next(iter([*feedback, *pairs, *dialogues]), ("", {}))
    measured = [row for s, row in _of(artifacts, "evaluate", prompt_id) if s == "items"]
    answers = [_answer(i, c) for i, c in enumerate(row.get("completions") or [])] if feedback else []
    made = [_pair(artifacts, s, pair) for s, pair in pairs]
    _take_part(answers, made)
    _add_rewards(answers, measured)
    return {
        "prompt_id": prompt_id,
        "prompt": row.get("prompt", ""),
        "split": split,
        "category": row.get("category") or "",
        "source": row.get("source") or "",
        "answers": answers,
        "pairs": made,
        "left_out": list(_left_out(artifacts, prompt_id, row.get("prompt", ""))),
        "measured": [{k: r[k] for k in ("measure", "model", "value", "n", "scores", "values")} for r in measured],
        "samples": [
            {name: r.get(name) for name in ("base", "dsft", "ddpo")} for s, r in _of(artifacts, "evaluate", prompt_id) if s == "samples"
        ],
        "dialogue": [r.get("messages") for _, r in dialogues],
        "made_by": {stage: a.manifest.digest for stage, a in artifacts.items()},
        "gone": [stage for stage in COUNTED if stage in artifacts and not (artifacts[stage].path / "data").is_dir()],
    }


def _answer(place: int, given: Mapping[str, Any]) -> Row:
    annotations = given.get("annotations") or {}
    aspects = {name: (annotations.get(name) or {}).get("rating") for name in ASPECTS}
    return {
        "position": place,
        "shown": given.get("position"),  # where it stood when several were rated together
        "model": given.get("model"),
        "principle": given.get("principle") or "",
        "finish_reason": given.get("finish_reason") or "",
        "response": given.get("response"),
        "overall_score": given.get("overall_score"),
        "aspects": aspects if annotations else {},
        "rationales": {name: (annotations.get(name) or {}).get("rationale") or "" for name in ASPECTS} if annotations else {},
        "critique": given.get("critique") or "",
        "part": "",
        "rewards": {},
    }


def _pair(artifacts: Artifacts, split: str, row: Row) -> Row:
    """A pair with its lineage, and the log-probabilities of the frozen model."""
    keys = (
        "score_chosen",
        "score_rejected",
        "chosen_model",
        "rejected_model",
        "chosen_position",
        "rejected_position",
        "rejected_rank",
        "answer_count",
    )
    texts = {which: row[which][-1]["content"] for which in ("chosen", "rejected")}
    pair = {"split": split, **{key: row.get(key) for key in keys}, **texts, "reference": None}
    for _, found in _of(artifacts, "reference", parse_preference(row).pair_id, column="pair_id"):
        pair["reference"] = {which: found.get(f"ref_{which}_logps") for which in ("chosen", "rejected")}
    return pair


def _take_part(answers: Sequence[Row], pairs: Sequence[Row]) -> None:
    for pair in pairs:
        for which in ("chosen", "rejected"):
            # pairs from elsewhere may not say which of the answers they took
            places = [answer for answer in answers if pair[f"{which}_position"] in (None, answer["position"])]
            if found := next((answer for answer in places if answer["response"] == pair[which]), None):
                found["part"] = which


def _add_rewards(answers: Sequence[Row], measured: Sequence[Row]) -> None:
    """The implicit reward of each answer by model, where the evaluation measured as many answers as the prompt has with text and score."""
    rated = [a for a in answers if (a["response"] or "").strip() and (a["aspects"] or a["overall_score"] is not None)]
    for row in measured:
        values = row.get("values") or []
        if row["measure"] == "reward_accuracy" and row["model"] != "length" and len(values) == len(rated):
            for answer, value in zip(rated, values, strict=True):
                answer["rewards"][row["model"]] = value


def _left_out(artifacts: Artifacts, prompt_id: str, prompt: str) -> Iterator[Row]:
    """Where rows about the prompt were dropped, and why."""
    short = f"prompt {prompt_id[:16]}"
    for stage, artifact in artifacts.items():
        path = artifact.path / "dropped" / "dropped.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            entry = json.loads(line)
            row = entry.get("row") if isinstance(entry.get("row"), dict) else {}
            where = str(entry.get("where", ""))
            if row.get("prompt_id") == prompt_id or where.startswith(short) or (prompt and row.get("prompt") == prompt):
                yield {"stage": stage, "reason": entry.get("reason", ""), "where": where}


# --- which prompts are worth following ---------------------------------------------------------------------------


def worked(artifacts: Artifacts) -> list[str]:
    """The prompts that a page follows, drawn by a hash of their ids.

    One on which the reward agrees with all ratings, one on which it does not, and a pair that was trained on; those that there are.
    """
    found: dict[str, str] = {}
    # an evaluation may have been of rows that are not of the run
    there = {i for stage in ("rate", "binarize") if stage in artifacts for i in _ids(artifacts[stage], "test")}
    rows = artifacts["evaluate"].rows("items") if there and "evaluate" in artifacts else []
    rows = [r for r in rows if r["measure"] == "reward_accuracy" and r["prompt_id"] in there]
    model = next((name for name in ("ddpo", "dsft") if any(r["model"] == name for r in rows)), "length")
    for row in sorted((r for r in rows if r["model"] == model), key=lambda r: _drawn(r["prompt_id"])):
        found.setdefault("agrees" if row["value"] == row["n"] else "differs", row["prompt_id"])
    if "binarize" in artifacts:
        ids = _ids(artifacts["binarize"], "train")
        found |= {"trained": min(ids, key=_drawn)} if ids else {}
    return list(dict.fromkeys(found[name] for name in ("agrees", "differs", "trained") if name in found))


def _drawn(prompt_id: str) -> float:
    return seeded_unit(0, "worked example", prompt_id)


def _ids(artifact: Artifact, split: str) -> list[str]:
    import pyarrow.parquet as pq

    paths = sorted((artifact.path / "data").glob(f"{split}-*.parquet"))
    return [
        i for path in paths if "prompt_id" in pq.read_schema(path).names for i in pq.read_table(path, columns=["prompt_id"])[0].to_pylist()
    ]


def row_of(found: Chain) -> Row:
    """A chain's answers as the row that they were read from."""
    completions = [
        {
            "model": a["model"],
            "principle": a["principle"],
            "response": a["response"],
            "finish_reason": a["finish_reason"] or "stop",
            "annotations": {n: {"rating": v, "rationale": a["rationales"][n]} for n, v in a["aspects"].items()} if a["aspects"] else None,
            "overall_score": a["overall_score"],
            "critique": a["critique"],
            "position": a["shown"],
        }
        for a in found["answers"]
    ]
    return {"prompt": found["prompt"], "prompt_id": found["prompt_id"], "completions": completions}
