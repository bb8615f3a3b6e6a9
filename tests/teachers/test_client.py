"""The client against a server that misbehaves, over real HTTP: nothing lost, nothing sent twice that was answered, all of it billed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import misbehaving
from misbehaving import FAULTS, answer_to, serving
from zephyr.errors import BudgetError, TeacherError, UsageError, ZephyrError
from zephyr.recipe import APIConfig, BudgetConfig, LimitsConfig
from zephyr.teachers import Reply, Request, ask, loop, pacing, response, server, wire, writer
from zephyr.teachers.journal import NANO

CANARY = "sk-canary-7f3a/not+a=real&key"


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(pacing, "FIRST_BACKOFF_S", 0.004)
    monkeypatch.setattr(pacing, "LONGEST_BACKOFF_S", 0.03)
    monkeypatch.setattr(pacing, "FIRST_REST_S", 0.02)
    monkeypatch.setattr(pacing, "LONGEST_REST_S", 0.1)
    monkeypatch.setattr(loop, "TAKEN_POLL_S", 0.05)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def config(url: str, *, limits: dict[str, Any] | None = None, **rest: Any) -> APIConfig:
    values = {"max_in_flight": 32, "timeout_s": 20, "patience_s": 60, **(limits or {})}
    return APIConfig(kind="api", base_url=url, model="m", limits=LimitsConfig(**values), **{"max_new_tokens": 16, **rest})


def questions(count: int, start: int = 0) -> list[Request]:
    return [Request("complete", f"p{i}", ({"role": "user", "content": f"Question {i}?"},)) for i in range(start, start + count)]


@contextlib.contextmanager
def teachers(folder: Path, budget: BudgetConfig | None = None, **configs: APIConfig) -> Iterator[ask.Teachers]:
    with ask.opened("complete", configs, folder=folder, budget=budget or BudgetConfig(), seed=0, digests={}) as opened:
        yield opened


def collect(folder: Path, requests: Sequence[Request], budget: BudgetConfig | None = None, **configs: APIConfig) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    with teachers(folder, budget, **configs) as opened:
        for _, reply in opened.replies(dict.fromkeys(configs, requests)):
            assert reply.request.prompt_id not in found, "handed on twice"
            found[reply.request.prompt_id] = reply
    return found


def bill(folder: Path) -> dict[str, Any]:
    from zephyr.teachers.journal import Journal

    with Journal(folder / "journal.sqlite") as journal:
        return journal.bill()["complete a"]


def test_a_healthy_server_is_asked_each_question_once(tmp_path: Path) -> None:
    requests = questions(300)
    with serving() as running:
        running.book.keep_bodies = True
        found = collect(tmp_path, requests, a=config(running.url, temperature=0.5, extra={"top_k": 5}))
        assert {r.request: r.text for r in found.values()} == {r: answer_to(list(r.messages)) for r in requests}
        assert set(running.book.sent.values()) == {1} and len(running.book.sent) == 300
        again = collect(tmp_path, requests, a=config(running.url, temperature=0.5, extra={"top_k": 5}))
        assert {p: r.text for p, r in again.items()} == {p: r.text for p, r in found.items()}
        assert sum(running.book.sent.values()) == 300, "what was answered was sent again"
        body = next(iter(running.book.bodies.values()))
        assert {k: v for k, v in body.items() if k != "messages"} == {
            "model": "m", "temperature": 0.5, "top_p": 1.0, "max_tokens": 16, "top_k": 5,
        }  # fmt: skip
        total = running.book.tokens
    b = bill(tmp_path)
    assert (b["calls"], b["answered"], b["prompt_tokens"], b["completion_tokens"]) == (300, 300, *total)


def test_another_question_is_another_request(tmp_path: Path) -> None:
    """Model, messages, sampling, sample and teacher are the name of a request; where it is sent and how fast are not."""
    with serving() as running:
        one = questions(1)
        plain = config(running.url)
        collect(tmp_path, one, a=plain)
        collect(tmp_path, one, a=config(running.url + "/", limits={"max_in_flight": 3}))
        assert len(running.book.sent) == 1
        others = [config(running.url, temperature=0.3), config(running.url, max_new_tokens=17), config(running.url, extra={"top_k": 1})]
        for other in others:
            collect(tmp_path, one, a=other)
        collect(tmp_path, one, b=plain)
        collect(tmp_path, [Request("complete", "p0", one[0].messages, sample=1)], a=plain)
        assert len(running.book.sent) == 6


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_by_itself(tmp_path: Path, fault: str) -> None:
    """A quarter of all sendings goes wrong in one way; every question gets its answer, and the journal knows what may have been paid twice."""
    requests = questions(40)
    with serving({fault: 0.25}, seed=5) as running:
        found = collect(
            tmp_path,
            requests,
            a=config(running.url, limits={"timeout_s": 1.0 if "hang" in fault else 20}, prices={"prompt": 1.0, "completion": 2.0}),
        )
        assert {p: r.text for p, r in found.items()} == {r.prompt_id: answer_to(list(r.messages)) for r in requests}
        book = running.book
    b = bill(tmp_path)
    assert b["calls"] == sum(book.sent.values()) and b["answered"] == 40 and b["failed"] == b["unknown"] == 0
    assert book.did[fault] > 4
    worked_without_answer = sum(book.worked.values()) - 40
    if fault in ("plain text", "drip", "usage"):
        assert b["calls"] == 40, "an answer that came was asked for again"
    if FAULTS[fault]:  # what the server worked on and we have no answer to is counted, every one of it
        assert b["possibly_paid_twice"] == worked_without_answer
    elif fault in ("429", "500", "503", "echo key"):
        assert b["possibly_paid_twice"] == worked_without_answer == 0
    paid = (book.tokens[0] * 1000 + book.tokens[1] * 2000) / NANO
    if fault != "usage":
        assert b["spent_usd"] <= paid + 1e-12 <= b["spent_usd"] + b["possibly_spent_usd"] + 1e-12
    assert (b["usage_not_believed"] > 4) == (fault == "usage")
    if fault == "usage":  # the most that it can have been is counted
        assert b["spent_usd"] > paid


def test_everything_at_once(tmp_path: Path) -> None:
    requests = questions(160)
    share = {name: 0.6 / len(FAULTS) for name in FAULTS}
    with serving(share, seed=9) as running:
        found = collect(tmp_path, requests, a=config(running.url, limits={"max_in_flight": 64, "timeout_s": 1.0}))
        assert {p: r.text for p, r in found.items()} == {r.prompt_id: answer_to(list(r.messages)) for r in requests}
        assert running.book.most <= 64
    b = bill(tmp_path)
    assert b["answered"] == 160 and b["possibly_paid_twice"] >= sum(running.book.worked.values()) - 160


def test_no_more_are_under_way_than_allowed_and_no_fewer_than_it_takes(tmp_path: Path) -> None:
    with serving(delay_s=0.3) as running:  # long enough for all that may leave to be there together
        collect(tmp_path, questions(150), a=config(running.url, limits={"max_in_flight": 24, "timeout_s": 10}))
        assert running.book.most == 24


def test_a_server_that_can_take_little_is_found_out(tmp_path: Path) -> None:
    """It turns away what comes while it has four in hand, politely; after the first episode few requests are turned away."""
    with serving(delay_s=0.01) as running:
        book = running.book
        busy = 429, {"retry-after-ms": "30"}, b'{"error": {"message": "busy"}}'
        turned_away = []

        def overloaded(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
            if book.now < 8:
                return None
            turned_away.append(time.monotonic())
            return busy

        book.always = overloaded
        found = collect(tmp_path, questions(300), a=config(running.url, limits={"max_in_flight": 128, "timeout_s": 5}))
    assert len(found) == 300
    assert len(turned_away) < 100, f"{len(turned_away)} of 300 requests were turned away"


def test_requests_a_minute_are_kept(tmp_path: Path) -> None:
    times: list[float] = []
    with serving() as running:
        running.book.always = lambda body: times.append(time.monotonic())  # type: ignore[func-returns-value]
        collect(tmp_path, questions(40), a=config(running.url, limits={"requests_per_minute": 1200}))
    rate = (1200 - 100) / 60  # a bucket of five seconds' worth, 100, would let all through: so it starts with a hundred
    assert len(times) == 40 and times[-1] - times[0] < 40 / rate
    times.clear()
    with serving() as running:
        running.book.always = lambda body: times.append(time.monotonic())  # type: ignore[func-returns-value]
        collect(tmp_path / "b", questions(40), a=config(running.url, limits={"requests_per_minute": 240}))
    assert times[-1] - times[0] > (40 - 20) / ((240 - 20) / 60) * 0.9, "twenty at once, then at the steady rate"


# --- what cannot be mended by asking on ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": "Incorrect API key provided"}}, "HTTP 401: Incorrect API key provided; the key is not accepted"),
        (403, {"detail": "no"}, "HTTP 403: no; the key is not accepted"),
        (404, {"error": {"message": "no model m"}}, "HTTP 404: no model m; base_url or model is wrong"),
        (402, {}, "has no credit left"),
        (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, "has no credit left"),
        (307, {}, "put the address it is meant to have into base_url"),
    ],
)
def test_a_server_that_will_not_answer_is_not_asked_on(tmp_path: Path, status: int, body: dict[str, Any], said: str) -> None:
    with serving() as running:
        running.book.always = lambda _: (status, {"Location": "/v2"}, json.dumps(body).encode())
        with pytest.raises(TeacherError) as error:
            collect(tmp_path, questions(200), a=config(running.url))
        assert said in str(error.value) and "run the same command again" in str(error.value)
        assert sum(running.book.sent.values()) <= 32


def test_a_request_that_is_refused_is_a_reply_and_all_of_them_are_a_wrong_setting(tmp_path: Path) -> None:
    with serving() as running:
        long = b'{"error": {"message": "context length exceeded"}}'
        running.book.always = lambda body: (400, {}, long) if "Question 7?" in body["messages"][0]["content"] else None
        found = collect(tmp_path, questions(50), a=config(running.url))
        assert found["p7"].finish_reason == "refused" and found["p7"].problem == "HTTP 400: context length exceeded"
        assert sum(r.finish_reason == "stop" for r in found.values()) == 49 and running.book.sent.total() == 50
        running.book.always = lambda body: (400, {}, b'{"error": {"message": "max_tokens is not supported"}}')
        with pytest.raises(
            TeacherError, match="refused the first 20 requests, so it is not the requests: HTTP 400: max_tokens is not supp"
        ):
            collect(tmp_path / "b", questions(200), a=config(running.url))


def test_a_dead_endpoint_leaves_the_others_running(tmp_path: Path) -> None:
    with serving() as running:
        dead = config("http://127.0.0.1:9/v1", limits={"patience_s": 0.5})
        alive = config(running.url)
        found: list[str] = []
        with (
            pytest.raises(TeacherError, match=r"dead: nothing was answered for .* s: no connection .*; 30 requests were not sent for that"),
            teachers(tmp_path, dead=dead, alive=alive) as opened,
        ):
            for name, _ in opened.replies({"dead": questions(30), "alive": questions(200)}):
                found.append(name)
        assert found == ["alive"] * 200


def test_a_server_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with serving() as running:
        book, until = running.book, time.monotonic() + 0.8
        book.always = lambda body: (500, {}, b"{}") if time.monotonic() < until else None
        found = collect(tmp_path, questions(60), a=config(running.url))
        assert len(found) == 60
        assert book.sent.total() < 60 + 120, "it rested while nothing came"


def test_what_got_no_answer_in_all_its_tries_is_an_error_after_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TRIES", 4)
    with serving() as running:
        running.book.always = lambda body: (500, {}, b'{"error": "crash"}') if "Question 3?" in body["messages"][0]["content"] else None
        found: list[Reply] = []
        with (
            pytest.raises(
                TeacherError, match=r"1 requests got no answer \(the first, to a, in 4 tries: HTTP 500: crash\); all answers are kept"
            ),
            teachers(tmp_path, a=config(running.url)) as opened,
        ):
            for _, reply in opened.replies({"a": questions(40)}):
                found.append(reply)
        assert len(found) == 39
        running.book.always = lambda body: None
        assert len(collect(tmp_path, questions(40), a=config(running.url))) == 40
        assert running.book.sent.total() == 39 + 4 + 1


def test_no_key_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serving() as running, pytest.raises(UsageError, match="environment variable NO_SUCH_KEY, which its key_env names, is not set"):
        collect(tmp_path, questions(1), a=config(running.url, key_env="NO_SUCH_KEY"))
    monkeypatch.setenv("NO_SUCH_KEY", "sk-with\nnewline")
    with pytest.raises(UsageError, match="holds characters that no key has") as error:
        wire.secret_of("a", config("http://h/v1", key_env="NO_SUCH_KEY"))
    assert "sk-with" not in str(error.value)


def test_one_request_that_a_filter_stops_does_not_stop_the_others(tmp_path: Path) -> None:
    with serving() as running:
        for i, status in enumerate((403, 404)):
            running.book.always = (
                lambda s: lambda body: (s, {}, b'{"error": "flagged"}') if "Question 30?" in body["messages"][0]["content"] else None
            )(status)
            found = collect(tmp_path / str(i), questions(60), a=config(running.url, limits={"max_in_flight": 8}))
            assert found["p30"].finish_reason == "refused" and found["p30"].problem == f"HTTP {status}: flagged"
            assert sum(r.finish_reason == "stop" for r in found.values()) == 59


def test_refusals_of_an_earlier_run_are_no_reason_to_stop_a_later_one(tmp_path: Path) -> None:
    with serving() as running:
        running.book.always = lambda body: (400, {}, b"{}") if int(body["messages"][0]["content"][9:-1]) % 4 == 0 else None
        for _ in range(2):
            found = collect(tmp_path, questions(120), a=config(running.url))
            assert sum(r.finish_reason == "refused" for r in found.values()) == 30 and len(found) == 120


def test_so_many_turned_away_in_a_row_are_no_filter(tmp_path: Path) -> None:
    """A key that ends, a model that goes: nothing is taken for answered that was turned away, and a mended server is asked again."""
    with serving() as running:
        collect(tmp_path, questions(30), a=config(running.url))
        for status in (403, 404):
            running.book.always = lambda body, status=status: (status, {}, b'{"error": "key limit exceeded"}')
            with pytest.raises(TeacherError, match=f"a: HTTP {status}: key limit exceeded; .* requests were not sent for that"):
                collect(tmp_path, questions(300), a=config(running.url))
        running.book.always = lambda body: None
        found = collect(tmp_path, questions(300), a=config(running.url))
        assert {r.finish_reason for r in found.values()} == {"stop"} and len(found) == 300


@pytest.mark.parametrize("count", [3, 19, 20, 21, 23, 40])
def test_all_refused_is_an_error_however_many(tmp_path: Path, count: int) -> None:
    with serving() as running:
        running.book.always = lambda body: (400, {}, b"{}")
        with pytest.raises(TeacherError, match="it refused"):
            collect(tmp_path, questions(count), a=config(running.url))


def test_one_prompt_that_is_refused_does_not_end_a_run(tmp_path: Path) -> None:
    with serving() as running:
        running.book.always = lambda body: (400, {}, b"{}")
        assert collect(tmp_path, questions(1), a=config(running.url))["p0"].finish_reason == "refused"


def test_one_figure_that_cannot_be_says_nothing_of_the_other(tmp_path: Path) -> None:
    def usage(prompt: Any, completion: Any) -> tuple[int, int, bool]:
        value = {
            "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        }
        found = response.read(config("http://h/v1"), questions(1)[0], 200, json.dumps(value).encode(), str)
        assert isinstance(found, response.Answer)
        return found.prompt_tokens, found.completion_tokens, found.usage_known

    most = wire.most_tokens(questions(1)[0].messages)
    assert usage(7, 3) == (7, 3, True)
    assert usage(most + 8, 3) == (most + 8, 3, False) and usage(7, 5000) == (7, 5000, False)
    assert usage(-1, 3) == (most, 3, False) and usage(7, None) == (7, 16, False)


def test_few_requests_all_refused_are_a_wrong_setting_too(tmp_path: Path) -> None:
    with serving() as running:
        running.book.always = lambda body: (400, {}, b'{"error": {"message": "use max_completion_tokens"}}')
        with pytest.raises(
            TeacherError, match="a: it refused all 5 requests, so it is not the requests: HTTP 400: use max_completion_tokens"
        ):
            collect(tmp_path, questions(5), a=config(running.url))


def test_a_server_that_hung_and_is_back_is_found_again(tmp_path: Path) -> None:
    """Requests that hang are not the one that tries; slow answers are no failures."""
    with serving({"hang before": 0.2}, seed=1, delay_s=0.05) as running:
        found = collect(tmp_path, questions(60), a=config(running.url, limits={"timeout_s": 0.6, "patience_s": 2.0, "max_in_flight": 8}))
    assert len(found) == 60


def test_waiting_for_what_a_server_asks_for_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "LONGEST_PAUSE_S", 5)
    with serving() as running:
        book = running.book

        def busy_once(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes] | None:
            return (429, {"Retry-After": "1"}, b"{}") if book.sent.total() == 1 else (500, {}, b"{}") if book.sent.total() == 2 else None

        book.always = busy_once
        assert len(collect(tmp_path, questions(5), a=config(running.url, limits={"patience_s": 0.3}))) == 5


def test_a_journal_that_cannot_be_written_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment: what was under way is written afterwards, nothing more is sent, and the run ends with the reason."""
    from zephyr.teachers.journal import Journal

    write, calls = Journal.write, []

    def failing(self: Journal, *arguments: Any) -> list[str]:
        calls.append(1)
        if 10 <= len(calls) < 14:
            raise ZephyrError("no space left, for a moment")
        return write(self, *arguments)

    monkeypatch.setattr(Journal, "write", failing)
    monkeypatch.setattr(writer, "WRITE_AGAIN_S", 0.02)
    with serving(delay_s=0.02) as running:
        with pytest.raises(ZephyrError, match="no space left, for a moment"):
            collect(tmp_path, questions(200), a=config(running.url))
        sent = running.book.sent.total()
        assert bill(tmp_path)["answered"] == sent and bill(tmp_path)["unknown"] == 0
        monkeypatch.undo()
        assert len(collect(tmp_path, questions(200), a=config(running.url))) == 200
        assert running.book.sent.total() == 200


def test_interrupted_before_it_began_it_sends_nothing(tmp_path: Path) -> None:
    with serving(delay_s=0.02) as running:
        with teachers(tmp_path, a=config(running.url)) as opened:
            replies = opened.replies({"a": questions(500)})
            opened._client._stopping.set()  # type: ignore[attr-defined]
            assert list(replies) == []
        assert running.book.sent.total() == 0


def test_empty_answers_and_answers_in_parts_are_answers(tmp_path: Path) -> None:
    def reply(content: Any) -> bytes:
        return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}).encode()

    with serving() as running:
        running.book.always = lambda body: (200, {}, reply(None))
        assert collect(tmp_path / "a", questions(1), a=config(running.url))["p0"].text == ""
        running.book.always = lambda body: (201, {}, reply([{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]))
        assert collect(tmp_path / "b", questions(1), a=config(running.url))["p0"].text == "two parts"
        running.book.always = lambda body: (200, {}, reply([{"type": "image_url"}]))
        with pytest.raises(
            TeacherError,
            match=r"got no answer \(the first, to a, in 6 tries: a reply that is no chat completion: the message has parts that are no",
        ):
            collect(tmp_path / "c", questions(1), a=config(running.url))
        assert running.book.sent.total() == 2 + server.CUT_TRIES, "what may have been paid for is not sent sixteen times"


def test_the_model_that_answers_is_kept_as_the_server_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the reply, and in that of a later run out of the journal; what is no name is none, and a key in it is taken out."""
    monkeypatch.setenv("CANARY_KEY", CANARY)
    names: list[Any] = ["m-2026-11", "m-2026-12", None, 7, f"m {CANARY}", "half \ud800\n", "m" * 999]
    names += ["m" * 190 + CANARY, "\x1b[31mred"]

    def named(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        name = names[int(body["messages"][0]["content"].split()[1].rstrip("?"))]
        value = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], **({} if name is None else {"model": name})}
        return 200, {}, json.dumps(value).encode()

    with serving() as running:
        running.book.always = named
        first = collect(tmp_path, questions(len(names)), a=config(running.url, key_env="CANARY_KEY"))
        again = collect(tmp_path, questions(len(names)), a=config(running.url, key_env="CANARY_KEY"))
        assert running.book.sent.total() == len(names), "the second time they are kept"
    expected = ["m-2026-11", "m-2026-12", "", "", "m [key]", "half ?", "m" * response.NAME_CHARACTERS]
    expected += ["m" * 190 + "[key]", "\N{REPLACEMENT CHARACTER}[31mred"]
    assert [first[f"p{i}"].served for i in range(len(names))] == expected
    assert [again[f"p{i}"].served for i in range(len(names))] == expected


def test_what_a_server_claims_beyond_belief_is_counted_as_the_larger(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 5000}
    body = json.dumps({"choices": [{"message": {"content": "Hm."}, "finish_reason": "stop"}], "usage": usage}).encode()
    with serving() as running:
        running.book.always = lambda _: (200, {}, body)
        with pytest.raises(BudgetError):
            collect(tmp_path, questions(50), BudgetConfig(usd=0.05), a=config(running.url, prices={"prompt": 1.0, "completion": 1.0}))
        assert running.book.sent.total() < 40
    assert bill(tmp_path)["completion_tokens"] == 5000 * bill(tmp_path)["answered"] == 5000 * bill(tmp_path)["usage_not_believed"]


def test_a_large_reply_is_not_kept_in_memory(tmp_path: Path) -> None:
    import gzip

    bomb = gzip.compress(b" " * (response.BODY_LIMIT + 2**20))
    with serving() as running:
        running.book.always = lambda _: (200, {"Content-Encoding": "gzip"}, bomb)
        with pytest.raises(TeacherError, match="a reply of more than 16,777,216 bytes"):
            collect(tmp_path, questions(1), a=config(running.url))


# --- money -----------------------------------------------------------------------------------------------------------


def test_a_budget_stops_before_it_is_passed_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    """Fifty questions of at most 16 tokens: the worst case is reserved, the true cost counted."""
    price = {"prompt": 1.0, "completion": 1000.0}
    with serving(delay_s=0.002) as running:
        budget = BudgetConfig(usd=0.1)
        with pytest.raises(BudgetError) as error:
            collect(tmp_path, questions(50), budget, a=config(running.url, prices=price))
        assert error.value.exit_code == 3 and "the budget of $0.1 is reached" in str(error.value)
        first = running.book.sent.total()
        paid = running.book.tokens[0] * 1e-6 + running.book.tokens[1] * 1e-3
        assert 0.1 - 0.017 <= paid <= 0.1, "stopped too early or too late"
        assert len(collect(tmp_path, questions(50), BudgetConfig(usd=1.0), a=config(running.url, prices=price))) == 50
        assert running.book.sent.total() == 50 > first


def test_a_budget_that_two_teachers_share_cuts_nothing(tmp_path: Path) -> None:
    """One is turned away while the other's requests are on their way: they are waited for, and the reason is said."""
    dear, cheap = {"prompt": 0.0, "completion": 100_000.0}, {"prompt": 0.0, "completion": 1.0}
    with serving(delay_s=0.1) as running:
        found = []
        opening = teachers(tmp_path, BudgetConfig(usd=0.9), dear=config(running.url, prices=dear), cheap=config(running.url, prices=cheap))
        with pytest.raises(BudgetError), opening as opened:
            for name, _ in opened.replies({"dear": questions(5), "cheap": questions(5)}):
                found.append(name)
        assert found == ["cheap"] * 5 == ["cheap"] * running.book.sent.total()


def test_a_budget_of_calls_counts_every_sending(tmp_path: Path) -> None:
    with serving({"500": 0.5}, seed=2) as running:
        with pytest.raises(BudgetError, match="budget of 30 calls is reached: 30 calls"):
            collect(tmp_path, questions(50), BudgetConfig(calls=30), a=config(running.url))
        assert running.book.sent.total() == 30


def test_two_processes_share_the_work_and_the_journal(tmp_path: Path) -> None:
    """Every question is sent once, and both have all answers."""
    requests = questions(200)
    with serving(delay_s=0.005) as running:
        found: dict[int, dict[str, Reply]] = {}
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: collect(tmp_path, requests, a=config(running.url))})) for i in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert all(
            {p: r.text for p, r in f.items()} == {r.prompt_id: answer_to(list(r.messages)) for r in requests} for f in found.values()
        )
        assert len(found) == 2 and running.book.sent.total() == 200


def test_equal_requests_are_one_and_what_is_waited_for_is_said_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal answers to a prompt are rated in one request; no other process has a hand in it."""
    equal = [Request("complete", name, ({"role": "user", "content": "Paris."},)) for name in ("p0", "p1")]
    with serving(delay_s=0.3) as running:
        found = collect(tmp_path, equal, a=config(running.url))
        assert len({reply.text for reply in found.values()}) == 1 and len(found) == 2 and running.book.sent.total() == 1
    assert "a: waiting for answers that are under way already, here or in another process" in capsys.readouterr().err


# --- unknown ---------------------------------------------------------------------------------------------------------


def test_what_may_have_been_paid_is_left_out_where_the_recipe_says_so(tmp_path: Path) -> None:
    with serving({"reset after": 0.3}, seed=4) as running:
        found = collect(tmp_path, questions(60), a=config(running.url, unknown="skip"))
        lost = {p for p, r in found.items() if r.finish_reason == "unknown"}
        assert 5 < len(lost) < 40 and len(found) == 60 and running.book.sent.total() == 60
        again = collect(tmp_path, questions(60), a=config(running.url, unknown="skip"))
        assert {p for p, r in again.items() if r.finish_reason == "unknown"} == lost and running.book.sent.total() == 60
        running.book.faults = {}
        whole = collect(tmp_path, questions(60), a=config(running.url))
        assert all(r.finish_reason == "stop" for r in whole.values()) and running.book.sent.total() == 60 + len(lost)


def test_breaking_off_waits_for_what_is_under_way(tmp_path: Path) -> None:
    """The consumer stops after ten: what was under way is answered, kept, and not sent again."""
    with serving(delay_s=0.05) as running:
        with pytest.raises(KeyboardInterrupt), teachers(tmp_path, a=config(running.url, limits={"timeout_s": 5})) as opened:
            for i, _ in enumerate(opened.replies({"a": questions(400)})):
                if i == 10:
                    raise KeyboardInterrupt
        sent = running.book.sent.total()
        assert sent < 400
        assert bill(tmp_path)["unknown"] == 0 and bill(tmp_path)["answered"] == sent
        assert len(collect(tmp_path, questions(400), a=config(running.url, limits={"timeout_s": 5}))) == 400
        assert running.book.sent.total() == 400


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_is_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that repeats the key in every place it can: neither errors, replies, tracebacks nor any file hold it."""
    monkeypatch.setenv("CANARY_KEY", CANARY)
    output = io.StringIO()

    def attempt(folder: Path, always: Any, count: int = 30) -> list[Reply]:
        with serving() as running:
            running.book.keep_bodies = True
            if always:
                running.book.always = always
            try:
                return list(collect(folder, questions(count), a=config(running.url, key_env="CANARY_KEY")).values())
            except ZephyrError:
                output.write(traceback.format_exc())
                return []
            finally:
                assert all(h["authorization"] == f"Bearer {CANARY}" for h in running.book.headers) and running.book.headers

    quoted = json.dumps({"error": {"message": f"bad key {CANARY} given"}}).encode()
    escaped = quoted.replace(b"/", b"\\/")
    said = json.dumps({"choices": [{"message": {"content": f"Your key is {CANARY}."}, "finish_reason": CANARY}], "usage": {}}).encode()
    replies = []
    for i, (status, body) in enumerate([(401, quoted), (400, quoted), (404, escaped), (400, escaped), (200, said), (200, escaped)]):
        few = (lambda s, b, seen: lambda _: (s, {"Retry-After": CANARY}, b) if seen.append(1) or len(seen) < 12 else None)(status, body, [])
        replies += attempt(tmp_path / str(i), few)
    replies += attempt(
        tmp_path / "busy", (lambda seen: lambda _: (429, {"Retry-After": CANARY}, quoted) if seen.append(1) or len(seen) < 5 else None)([])
    )
    assert replies and any("Your key is [key]." in r.text for r in replies)
    output.write("".join(r.text + r.problem + r.finish_reason for r in replies))
    output.write(repr(wire.secret_of("a", config("http://h/v1", key_env="CANARY_KEY"))))
    captured = capsys.readouterr()
    output.write(captured.out + captured.err)
    texts = [output.getvalue().encode(), *(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())]
    assert len(texts) > 7
    for text in texts:
        assert CANARY.encode() not in text and CANARY.replace("/", "\\/").encode() not in text
    short = "x" * (response.ERROR_CHARACTERS - 6 - len("HTTP 400: "))
    cut = response.read(config("http://h/v1"), questions(1)[0], 400, f"{short}{CANARY}".encode(), wire.Secret(CANARY).removed_from)
    assert isinstance(cut, response.Trouble) and CANARY[:6] not in cut.problem, "cut short before the key was taken out"
    assert wire.Secret("ollama").removed_from_answer("Install ollama.") == "Install ollama."
    with pytest.raises(TypeError, match="not written down"):
        __import__("pickle").dumps(wire.Secret(CANARY))


def test_a_proxys_password_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as running:
        running.book.always = lambda _: (407, {}, b"no")
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:SECRETPW@127.0.0.1:{running.port}")
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(TeacherError) as error:
            collect(tmp_path, questions(1), a=config("https://example.invalid/v1", limits={"patience_s": 0.2}))
    assert "SECRETPW" not in str(error.value) and bill(tmp_path)["possibly_spent_usd"] == 0
    assert all(b"SECRETPW" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_a_journal_may_be_read_beside_the_run(tmp_path: Path) -> None:
    with serving() as running:
        collect(tmp_path, questions(5), a=config(running.url))
    db = sqlite3.connect(f"file:{tmp_path / 'journal.sqlite'}?mode=ro", uri=True)
    assert db.execute("SELECT count(*) FROM requests WHERE state = 'answered'").fetchone() == (5,)


def test_the_server_of_these_tests_runs_by_itself() -> None:
    process = subprocess.Popen(
        [sys.executable, misbehaving.__file__, "--faults", "500=0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout and process.stdin
    assert int(process.stdout.readline()) > 0
    process.stdin.close()
    assert process.wait(20) == 0
