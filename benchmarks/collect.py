"""Requests a second: ours with its journal, the bare HTTP client, and the vendor's client, in turn, against one server on loopback.

    python benchmarks/collect.py --requests 100000 --rounds 3

The server is a process of its own (tests/misbehaving.py, in good health), the requests are those of `complete`. Printed are medians,
the CPU time a request of each side, what of ours goes where, the memory, and the machine; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import machine

HERE = Path(__file__).resolve()
IN_FLIGHT = 256


@contextmanager
def server() -> Iterator[int]:
    """The server's port, while it runs."""
    command = [sys.executable, str(HERE.parents[1] / "tests" / "misbehaving.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def question(i: int) -> str:
    """What is asked: some 60 tokens."""
    return f"What is the use of number {i}? " + "Say it in a few words. " * 10


def ours(port: int, count: int) -> dict[str, float]:
    """Through the journal, as the stage `complete` does it."""
    from zephyr.recipe import APIConfig, BudgetConfig, LimitsConfig, PricesConfig
    from zephyr.teachers import Request, ask
    from zephyr.teachers.journal import Journal

    config = APIConfig(
        kind="api",
        base_url=f"http://127.0.0.1:{port}/v1",
        model="m",
        limits=LimitsConfig(max_in_flight=IN_FLIGHT),
        prices=PricesConfig(prompt=1.0, completion=2.0),
    )
    requests = [Request("complete", f"p{i}", ({"role": "user", "content": question(i)},)) for i in range(count)]
    spent: dict[str, float] = {"commits": 0, "commit_s": 0.0}
    write = Journal.write

    def timed(self: Journal, *arguments: Any) -> list[str]:
        began = time.perf_counter()
        try:
            return write(self, *arguments)
        finally:
            spent["commits"] += 1
            spent["commit_s"] += time.perf_counter() - began

    Journal.write = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        opened = ask.opened("complete", {"a": config}, folder=Path(folder), budget=BudgetConfig(), seed=0, digests={})
        with opened as teachers:
            got = sum(1 for _ in teachers.replies({"a": requests}))
            seconds = time.perf_counter() - began
        bill = Journal(Path(folder) / "journal.sqlite").bill()["complete a"]
        assert got == bill["answered"] == bill["calls"] == count, "an answer was lost, or asked for twice"
        return {"seconds": seconds, "journal_mb": (Path(folder) / "journal.sqlite").stat().st_size / 2**20, **spent}


def bare(port: int, count: int) -> dict[str, float]:
    """aiohttp, the bodies and the answers as JSON, and nothing else."""
    import aiohttp

    async def work() -> None:
        numbers = iter(range(count))
        url, headers = f"http://127.0.0.1:{port}/v1/chat/completions", {"Content-Type": "application/json"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one() -> None:
                for i in numbers:
                    body = {"model": "m", "messages": [{"role": "user", "content": question(i)}], "max_tokens": 1024}
                    async with session.post(url, data=json.dumps(body).encode(), headers=headers) as reply:
                        json.loads(await reply.read())

            await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))

    began = time.perf_counter()
    asyncio.run(work())
    return {"seconds": time.perf_counter() - began}


def vendor(port: int, count: int) -> dict[str, float]:
    """The vendor's own asynchronous client."""
    import openai

    async def work() -> None:
        numbers = iter(range(count))
        async with openai.AsyncOpenAI(api_key="none", base_url=f"http://127.0.0.1:{port}/v1", max_retries=0) as client:

            async def one() -> None:
                for i in numbers:
                    await client.chat.completions.create(model="m", messages=[{"role": "user", "content": question(i)}], max_tokens=1024)

            await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))

    began = time.perf_counter()
    asyncio.run(work())
    return {"seconds": time.perf_counter() - began}


SIDES: dict[str, Callable[[int, int], dict[str, float]]] = {"ours": ours, "aiohttp": bare, "openai": vendor}


def measured(side: str, port: int, count: int) -> dict[str, float]:
    """One side, in a process of its own: its seconds, its CPU time, and the most memory it held."""
    command = [sys.executable, str(HERE), "--side", side, "--port", str(port), "--requests", str(count)]
    path = os.pathsep.join([str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path})
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summed(runs: list[dict[str, float]], count: int) -> dict[str, float]:
    """The median rate and its range, and what a request costs."""
    rates = sorted(count / run["seconds"] for run in runs)
    found = {"requests_per_s": statistics.median(rates), "least": rates[0], "most": rates[-1]}
    found["cpu_ms"] = 1000 * statistics.median(run["cpu_s"] for run in runs) / count
    found["memory_mb"] = max(run["memory_mb"] for run in runs)
    if "commits" in runs[0]:
        found["commits"] = statistics.median(run["commits"] for run in runs)
        found["commit_share"] = statistics.median(run["commit_s"] / run["seconds"] for run in runs)
    return found


def main() -> None:
    """All sides in turn; or one of them, in this process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=list(SIDES))
    parser.add_argument("--port", type=int)
    given = parser.parse_args()
    if given.side:
        found = SIDES[given.side](given.port, given.requests)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({**found, "cpu_s": usage.ru_utime + usage.ru_stime, "memory_mb": usage.ru_maxrss / 1024}))
        return
    counts = {"ours": given.requests, "aiohttp": given.requests, "openai": max(1000, given.requests // 20)}  # it would take too long
    sides = [side for side in SIDES if side != "openai" or importlib.util.find_spec("openai")]
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with server() as port:
        for _ in range(given.rounds):
            for side in sides:
                runs[side].append(measured(side, port, counts[side]))
    result: dict[str, Any] = {"machine": machine(), "requests": counts, "in_flight": IN_FLIGHT, "rounds": given.rounds}
    for side, found in runs.items():
        total = result[side] = summed(found, counts[side])
        between = f"{total['least']:,.0f} to {total['most']:,.0f}"
        print(f"{side:8} {total['requests_per_s']:8,.0f} requests/s ({between}), {total['cpu_ms']:.3f} ms of CPU a request")
    mine = result["ours"]
    result["ratio"] = {f"ours/{side}": mine["requests_per_s"] / result[side]["requests_per_s"] for side in sides if side != "ours"}
    print(f"ours: {mine['commits']:,.0f} transactions, {mine['commit_share']:.0%} of the time; {mine['memory_mb']:,.0f} MB at most")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
