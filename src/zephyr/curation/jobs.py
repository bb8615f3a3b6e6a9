"""What a process may be asked to do."""

from __future__ import annotations

from typing import Any

from zephyr.curation import index, near, write
from zephyr.curation.work import Work
from zephyr.errors import DataError, UsageError, ZephyrError

Job = dict[str, Any]
# what goes wrong in a job, by the name under which it is handed on
ERRORS = {kind.__name__: kind for kind in (DataError, UsageError, ZephyrError)}


def do(work: Work, job: Job) -> dict[str, Any]:
    """Do one job; what was done before is recognised."""
    number = job["number"]
    if job["do"] == "index":
        about = index.index(work, number)
        bad = next((entry for entry in about["aside"] if entry["problem"]), None)
        return {"rows": about["rows"], "bad": bad is not None}
    if job["do"] == "sets":
        return near.write_sets(work, job["kind"], number)
    if job["do"] == "pairs":
        return near.write_similarity(work, job["kind"], number)
    if job["do"] == "split":
        return write.write_split(work, job["split"], number)
    assert job["do"] == "rest", job
    return write.write_rest(work, number)
