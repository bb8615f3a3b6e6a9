"""Several processes of one job, forked from this one with the imports done, in the environment that `torchrun` gives them."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any


def launch(size: int, work: Callable[[], Any], *, patience: float = 60) -> list[dict[str, Any]]:
    """Run `work` in so many processes; what each returned or raised, its exit code and its seconds."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    began, children = time.perf_counter(), []
    for rank in range(size):
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(reader)
            os.environ.update(
                {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            )
            signal.alarm(int(patience))  # a process that waits for ever is the failure that is looked for
            found: dict[str, Any] = {}
            try:
                found["value"] = work()
            except BaseException as error:
                found["raised"], found["text"] = type(error).__name__, str(error)
            os.write(writer, json.dumps(found).encode())
            os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    results = []
    for pid, reader in children:
        said = b"".join(iter(lambda at=reader: os.read(at, 65536), b""))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        results.append({**json.loads(said or b"{}"), "code": code, "seconds": time.perf_counter() - began})
    return results
