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


def ratings() -> pa.Schema:
    """UltraFeedback's nested row; the annotations are null until an answer is rated."""
    import pyarrow as pa

    text = pa.string()
    aspect = pa.struct([("rating", pa.int64()), ("rationale", text)])
    completion = pa.struct(
        [
            ("model", text),
            ("principle", text),
            ("response", text),
            ("finish_reason", text),
            ("annotations", pa.struct([(name, aspect) for name in ASPECTS])),
            ("overall_score", pa.float64()),
            ("critique", text),
        ]
    )
    return pa.schema([("prompt", text), ("prompt_id", text), ("source", text), ("category", text), ("completions", pa.list_(completion))])


def preferences() -> pa.Schema:
    """The columns of binarized UltraFeedback, and the lineage of a pair."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            ("prompt", text),
            ("prompt_id", text),
            ("chosen", _messages()),
            ("rejected", _messages()),
            ("messages", _messages()),
            ("score_chosen", number),
            ("score_rejected", number),
            ("chosen_model", text),
            ("rejected_model", text),
            ("source", text),
            ("category", text),
        ]
    )


def references() -> pa.Schema:
    """Log-probabilities of both answers of a pair under the frozen model, under the names other trainers use."""
    import pyarrow as pa

    return pa.schema([("pair_id", pa.string()), ("ref_chosen_logps", pa.float64()), ("ref_rejected_logps", pa.float64())])
