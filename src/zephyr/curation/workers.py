"""Processes that do jobs: as many as there are processors, each told what to do a line at a time.

A job is one JSON object and so is what becomes of it. What a job makes, it keeps in files; so nothing is lost with a process, and a job
that was cut is done again. `zephyr.curation.worker` is what runs in them.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zephyr.curation.jobs import ERRORS, Job, do
from zephyr.curation.work import Work


def done(work: Work, jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Have jobs done, and give each with what became of it, as they end. With one process it is this one."""
    if min(processes, len(jobs)) <= 1:
        yield from ((job, do(work, job)) for job in jobs)
        return
    yield from _Pool(work.folder, jobs, min(processes, len(jobs))).results()


class _Pool:
    def __init__(self, folder: Path, jobs: Sequence[Job], processes: int) -> None:
        self._waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            self._waiting.put(job)
        self._count = len(jobs)
        self._found: queue.SimpleQueue[tuple[Job, dict[str, Any]]] = queue.SimpleQueue()
        self._processes = [_start(folder) for _ in range(processes)]

    def results(self) -> Iterator[tuple[Job, dict[str, Any]]]:
        threads = [threading.Thread(target=self._drive, args=(process,), daemon=True) for process in self._processes]
        for thread in threads:
            thread.start()
        try:
            for _ in range(self._count):
                job, reply = self._found.get()
                if "error" in reply:
                    raise ERRORS.get(reply["error"], RuntimeError)(reply["message"])
                yield job, reply
        finally:
            for process in self._processes:
                process.kill()
            for process in self._processes:
                process.wait()
            for thread in threads:
                thread.join()
            for process in self._processes:
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        with contextlib.suppress(OSError):  # what was still to be written to one that is gone
                            pipe.close()

    def _drive(self, process: subprocess.Popen[bytes]) -> None:
        """Give one process job after job."""
        assert process.stdin and process.stdout
        while True:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                process.stdin.write(json.dumps(job).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            if not line:
                code = process.wait()
                why = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
                more = "; there may not have been memory enough: give fewer with `processes`" if code == -signal.SIGKILL else ""
                message = f"a process that worked at the data is gone ({why}){more}; run the same command again to go on"
                self._found.put((job, {"error": "ZephyrError", "message": message}))
                return
            self._found.put((job, json.loads(line)))


def _start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "zephyr.curation.worker", str(folder), str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
