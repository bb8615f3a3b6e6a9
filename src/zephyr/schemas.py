"""The columns of every kind of row, as they are written to Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zephyr.records import ASPECTS

if TYPE_CHECKING:
    import pyarrow as pa


def _messages() -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def dialogues() -> pa.Schema:
    """`ultrachat_200k`'s columns and where a row came from."""
    import pyarrow as pa

    text = pa.string()
    return pa.schema([("prompt", text), ("prompt_id", text), ("messages", _messages()), ("source", text), ("category", text)])


def completions() -> pa.Schema:
    """UltraFeedback's nested row; the annotations are null until an answer is rated."""
    return _answered()


def ratings() -> pa.Schema:
    """The same, and which model rated an answer, as its server calls it; null where nobody says."""
    import pyarrow as pa

    return _answered(("rated_by", pa.string()))


def _answered(*more: tuple[str, pa.DataType]) -> pa.Schema:
    import pyarrow as pa

    text = pa.string()
    aspect = pa.struct([("rating", pa.int64()), ("rationale", text)])
    completion = pa.struct(
        [
            ("model", text),
            ("principle", text),
            ("system_prompt", text),
            ("response", text),
            ("finish_reason", text),
            ("annotations", pa.struct([(name, aspect) for name in ASPECTS])),
            ("overall_score", pa.float64()),
            ("critique", text),
            ("position", pa.int64()),
            *more,
        ]
    )
    return pa.schema([("prompt", text), ("prompt_id", text), ("source", text), ("category", text), ("completions", pa.list_(completion))])


def preferences() -> pa.Schema:
    """The columns of binarized UltraFeedback, and after them the lineage of a pair, null where unknown."""
    import pyarrow as pa

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    ratings = pa.struct([*((name, whole) for name in ASPECTS), ("overall_score", number)])
    answers = [
        (f"{which}_{name}", kind)
        for which in ("chosen", "rejected")
        for name, kind in (("model", text), ("principle", text), ("ratings", ratings), ("position", whole))
    ]
    return pa.schema(
        [
            ("prompt", text),
            ("prompt_id", text),
            ("chosen", _messages()),
            ("rejected", _messages()),
            ("messages", _messages()),
            ("score_chosen", number),
            ("score_rejected", number),
            ("source", text),
            ("category", text),
            *answers,
            ("rejected_rank", whole),
            ("answer_count", whole),
        ]
    )


def references() -> pa.Schema:
    """Log-probabilities of both answers of a pair under the frozen model, under the names other trainers use."""
    import pyarrow as pa

    return pa.schema([("pair_id", pa.string()), ("ref_chosen_logps", pa.float64()), ("ref_rejected_logps", pa.float64())])
