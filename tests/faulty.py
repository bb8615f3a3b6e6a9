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
    """How the case ended: exit code, stdout, stderr. Pipes, since a limit on files would cut files short."""
    readers, writers = zip(*(os.pipe() for _ in range(2)), strict=True)
    pid = os.fork()
    if pid == 0:
        child(case, *writers)
    for writer in writers:
        os.close(writer)
    out, err = (Path(f"/dev/fd/{reader}").read_bytes().decode() for reader in readers)  # what is written fits a pipe's buffer
    for reader in readers:
        os.close(reader)
    _, status = os.waitpid(pid, 0)
    return {"code": os.waitstatus_to_exitcode(status), "stdout": out, "stderr": err}


def main() -> None:
    """Import once what a run imports, then fork a process a case."""
    import torch
    import torch._dynamo

    import tiny
    import zephyr.api
    import zephyr.evals.preference
    import zephyr.forecast
    import zephyr.models.generate
    import zephyr.report.card
    import zephyr.report.page
    import zephyr.train.session  # noqa: F401

    torch.set_num_threads(1)
    tiny.tiny_model()
    tiny.byte_tokenizer()
    json.dump([outcome(case) for case in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    main()
