"""A process that does jobs for another: `python -m zephyr.curation.worker FOLDER PARENT`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from zephyr.curation.jobs import ERRORS, do
from zephyr.curation.work import Work
from zephyr.errors import ZephyrError


def serve(folder: Path, parent: int) -> None:
    """Do what is asked for on stdin, a job a line, until there is no more, or nobody who asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; it ends this one
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    work = Work.load(folder)
    for line in sys.stdin.buffer:
        if os.getppid() != parent:
            return
        try:
            reply = do(work, json.loads(line))
        except ZephyrError as error:
            kind = next(name for name, known in ERRORS.items() if isinstance(error, known))
            reply = {"error": kind, "message": str(error)}
        except Exception as error:
            reply = {"error": type(error).__name__, "message": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
