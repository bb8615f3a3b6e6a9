"""A server that speaks the chat-completions protocol over real HTTP, counts and bills, and misbehaves as it is told.

    python tests/misbehaving.py --faults 500=0.15,503=0.15 --seed 3      prints its port, and runs until stdin closes

What it answers depends on the messages alone, what it does wrong on the seed, the request's idempotency key and how often that was
sent. `GET /count` says what it saw: a bill for every request it worked on, whether or not the answer got through.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any

PATIENCE = (
    {"retry-after-ms": "20"},
    {"Retry-After": "0.03"},
    {"Retry-After": "0"},
    {"Retry-After": formatdate(0, usegmt=True)},
    {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "15ms"},
    {"Retry-After": "-5"},
    {"Retry-After": "soon"},
    {"Retry-After": "9" * 30},
    {},
)
USAGES: tuple[Any, ...] = (
    None,
    {},
    {"prompt_tokens": -3, "completion_tokens": 2},
    {"prompt_tokens": "7", "completion_tokens": "2"},
    {"prompt_tokens": 10**12, "completion_tokens": 10**12},
    {"prompt_tokens": 1.5, "completion_tokens": True},
    {"prompt_tokens": 0, "completion_tokens": 0},
    "many",
)
# each: does it work on the request (and bill it) before it fails?
FAULTS = {
    "429": False,
    "500": False,
    "503": False,
    "502": True,
    "hang before": False,
    "hang after": True,
    "reset before": False,
    "reset after": True,
    "cut JSON": True,
    "cut body": True,
    "half closed": True,
    "html": True,
    "plain text": True,
    "no choices": True,
    "drip": True,
    "usage": True,
    "no finish": True,
    "aborted": True,
    "half a character": True,
    "echo key": False,
}


def answer_to(messages: list[dict[str, str]]) -> str:
    """The answer, a function of the messages."""
    return f"answer {hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:12]}"


ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def judge_or_answer(messages: list[dict[str, str]]) -> str:
    """As `answer_to`; where it is asked to judge, a rating that depends on what it is shown."""
    if not messages[0]["content"].startswith("You judge"):
        return answer_to(messages)
    fence = re.search(r"\[question (\w{16})\]", messages[-1]["content"])
    assert fence is not None, "asked again, though the rating was in order"
    texts = re.findall(rf"\[answer ?\d* {fence[1]}\]\n(.*?)\n\[end {fence[1]}\]", messages[-1]["content"], re.DOTALL)
    ratings = []
    for text in texts:
        rng = random.Random(text)
        annotations = {name: {"rationale": "so", "rating": rng.randint(1, 5)} for name in ASPECTS}
        ratings.append({"annotations": annotations, "critique": "c", "overall_score": rng.randint(1, 10)})
    if "several answers" in messages[0]["content"]:
        return json.dumps({"answers": {str(i + 1): rating for i, rating in enumerate(ratings)}})
    return json.dumps(ratings[0])


def tokens_of(body: Mapping[str, Any]) -> tuple[int, int]:
    """What it bills: tokens of the prompt and of the answer."""
    return 1 + sum(len(m["content"]) for m in body["messages"]) // 4, 3


class Book:
    """What the server saw: by idempotency key, how often it was sent and how often worked on."""

    def __init__(self, faults: Mapping[str, float], seed: int, delay_s: float, answer: Callable[[list[dict[str, str]]], str]) -> None:
        assert set(faults) <= set(FAULTS), set(faults) - set(FAULTS)
        self.faults, self.seed, self.delay_s, self.answer = dict(faults), seed, delay_s, answer
        self.sent: Counter[str] = Counter()
        self.worked: Counter[str] = Counter()
        self.did: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.headers: list[dict[str, str]] = []
        self.tokens = [0, 0]
        self.now = self.most = 0
        self.keep_bodies = False
        self.always: Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes] | None] = lambda body: None

    def choose(self, key: str) -> str:
        """What to do wrong with this sending; nothing: answer."""
        rng = random.Random(f"{self.seed} {key} {self.sent[key]}")
        unit = rng.random()
        for name, share in self.faults.items():
            if (unit := unit - share) < 0:
                return name
        return ""


class Connection(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, book: Book) -> None:
        self.book, self.buffer = book, b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers.get("content-length", 0))
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            if lines[0].startswith("GET /count"):
                b = self.book
                counts = {"sent": dict(b.sent), "worked": dict(b.worked), "did": dict(b.did), "most": b.most, "tokens": b.tokens}
                self.reply(200, json.dumps(counts).encode())
            else:
                self.serve(headers, body)

    def serve(self, headers: dict[str, str], raw: bytes) -> None:
        book, body = self.book, json.loads(raw)
        key = headers.get("idempotency-key", "")
        book.sent[key] += 1
        if book.keep_bodies:
            book.bodies[key] = body
            book.headers.append(headers)
        book.now += 1
        book.most = max(book.most, book.now)
        fault = book.choose(key)
        book.did[fault] += 1
        if book.delay_s:
            asyncio.get_running_loop().call_later(book.delay_s, self.act, headers, body, key, fault)
        else:
            self.act(headers, body, key, fault)

    def act(self, headers: dict[str, str], body: dict[str, Any], key: str, fault: str) -> None:
        book = self.book
        book.now -= 1
        if (own := book.always(body)) is not None:
            self.reply(own[0], own[2], **own[1])
            return
        if FAULTS.get(fault, True):
            book.worked[key] += 1
            prompt, completion = tokens_of(body)
            book.tokens[0] += prompt
            book.tokens[1] += completion
        if self.transport is None or self.transport.is_closing():
            return
        rng = random.Random(f"{book.seed} {key} {book.sent[key]} how")
        if fault == "429":
            self.reply(429, b'{"error": {"message": "slow down"}}', **rng.choice(PATIENCE))
        elif fault in ("500", "502", "503"):
            self.reply(int(fault), b"<html>oops</html>", kind="text/html")
        elif fault == "echo key":
            self.reply(500, json.dumps({"error": {"message": f"broke at {headers.get('authorization')}"}}).encode())
        elif fault.startswith("hang"):
            return
        elif fault.startswith("reset"):
            self.transport.abort()
        else:
            self.succeed(body, fault, rng)

    def succeed(self, body: dict[str, Any], fault: str, rng: random.Random) -> None:
        assert self.transport is not None
        prompt, completion = tokens_of(body)
        value: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": self.book.answer(body["messages"])}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
        }
        if fault == "usage":
            value["usage"] = rng.choice(USAGES)
        elif fault == "no choices":
            value["choices"] = []
        elif fault == "no finish":
            value["choices"][0]["finish_reason"] = None
        elif fault == "aborted":
            value["choices"][0]["finish_reason"] = "abort"
        elif fault == "half a character":
            value["choices"][0]["finish_reason"] = "\ud800"
        text = json.dumps(value).encode()
        if fault == "cut JSON":
            self.reply(200, text[: len(text) // 2])
        elif fault in ("cut body", "half closed"):
            self.reply(200, text[: len(text) // 2], length=len(text))
            if fault == "half closed":
                self.transport.write_eof()
            else:
                self.transport.close()
        elif fault == "html":
            self.reply(200, b"<html><body>Welcome to the gateway</body></html>", kind="text/html")
        elif fault == "plain text":
            self.reply(200, text, kind="text/plain")
        elif fault == "drip":
            asyncio.get_running_loop().create_task(self.drip(text))
        else:
            self.reply(200, text)

    async def drip(self, text: bytes) -> None:
        self.reply(200, text[:1], length=len(text))
        for start in range(1, len(text), 40):
            await asyncio.sleep(0.002)
            if self.transport is None or self.transport.is_closing():
                return
            self.transport.write(text[start : start + 40])

    def reply(self, status: int, body: bytes, kind: str = "application/json", length: int | None = None, **headers: str) -> None:
        assert self.transport is not None
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        size = len(body) if length is None else length
        self.transport.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n{more}\r\n".encode() + body)


class Running:
    """A server at work: its port, and what it saw."""

    def __init__(self, book: Book, port: int) -> None:
        self.book, self.port = book, port
        self.url = f"http://127.0.0.1:{port}/v1"


@contextlib.contextmanager
def serving(
    faults: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
    delay_s: float = 0.0,
    answer: Callable[[list[dict[str, str]]], str] = answer_to,
) -> Iterator[Running]:
    """A server in a thread of this process."""
    book, loop, ready = Book(faults or {}, seed, delay_s, answer), asyncio.new_event_loop(), threading.Event()
    ports: list[int] = []

    async def begin() -> None:
        server = await loop.create_server(lambda: Connection(book), "127.0.0.1", 0, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.create_task(begin())
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield Running(book, ports[0])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def main() -> None:
    """A server in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    faults = {name: float(share) for name, _, share in (part.partition("=") for part in given.faults.split(",") if part)}
    with serving(faults, seed=given.seed, delay_s=given.delay, answer=judge_or_answer) as running:
        print(running.port, flush=True)
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
