"""Commands in processes of their own that a fault ends: run with a JSON list of cases on stdin, prints their ends as JSON.

One interpreter imports everything, and each case is a fork of it: a real process with real signals and limits. A case is
`{"arguments": […], "stage": NAME, "fault": FAULT}`; the fault strikes when the stage has done all its work and nothing of it
is published:

- `SIGINT`, `SIGTERM`: the process sends itself that signal;
- `limit:BYTES`: from the start of the stage no file may grow beyond so many bytes, which every library meets as the system's error.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def strike(stage: str, fault: str) -> None:
    """Replace the stage's `run` by one that ends in the fault."""
    module = importlib.import_module(f"zephyr.stages.{stage}")
    work = module.run

    def run(*args: Any) -> None:
        if fault.startswith("limit:"):
            limit = int(fault.removeprefix("limit:"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            work(*args)
            return
        work(*args)
        os.kill(os.getpid(), getattr(signal, fault))
        time.sleep(10)

    module.run = run


def child(case: dict[str, Any], stdout: int, stderr: int) -> None:
    """The case, in this process, which ends here."""
    from zephyr.cli import main

    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if case.get("fault"):
        strike(case["stage"], case["fault"])
    code = 0
    try:
        main(case["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def outcome(case: dict[str, Any]) -> dict[str, Any]:
    """How the case ended: exit code, stdout, stderr."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            child(case, out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return {"code": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


def main() -> None:
    import torch
    import transformers  # noqa: F401

    import zephyr.api
    import zephyr.evals.preference
    import zephyr.forecast
    import zephyr.models.generate
    import zephyr.train.session  # noqa: F401

    torch.set_num_threads(1)
    json.dump([outcome(case) for case in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    main()
