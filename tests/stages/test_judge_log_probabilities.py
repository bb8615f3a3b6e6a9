"""A judge's preference from the probabilities of the one token it says: over HTTP, with a server that gives them and with those that do not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import small
from misbehaving import Running, serving
from zephyr import api
from zephyr.errors import TeacherError
from zephyr.evals import alpaca_eval
from zephyr.evals.alpaca_eval import asking
from zephyr.evals.alpaca_eval import files as alpaca

BASELINE = [{"instruction": f"Say {n}.", "output": f"plain {n}", "generator": "plain", "dataset": "d"} for n in ("one", "two", "three")]
GOOD = 0.8  # how probable it is to the judge that `base` is the better one, if it stands first
Top = Callable[[str], list[dict[str, Any]] | None]


def completion(text: str, logprobs: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length", "logprobs": logprobs}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}).encode()


def says(first: float, *others: tuple[str, float]) -> list[dict[str, Any]]:
    """The most probable tokens of a judge that takes the first answer with such a probability of the two."""
    rest = 0.9 * (1 - first)
    found = [("m", math.log(0.9 * first)), *([("M", math.log(rest))] if rest else []), *others]
    return [{"token": token, "logprob": value, "bytes": None} for token, value in found]


def judging(running: Running, top: Callable[[dict[str, Any]], Any]) -> None:
    running.book.keep_bodies = True
    running.book.always = lambda body: (200, {}, completion("m", top(body)))


def setup(folder: Path, url: str, **more: Any) -> Path:
    answers = small.write_lines(folder / "b.jsonl", BASELINE)
    judge = {
        "teacher": {"kind": "api", "base_url": url, "model": "judge-1", "prices": {"prompt": 1, "completion": 1}},
        "alpaca_eval": {"baseline": str(answers), "preference": "log_probabilities", "max_new_tokens": 3, **more},
        "canary": False,
    }
    recipe = {"name": "j", "model": {"path": "m"}, "train": {"dtype": "float32"}, "judge": judge, "budget": {"usd": 1}}
    return small.write_recipe(folder / "recipe.yaml", recipe)


@pytest.fixture
def model(tmp_path: Path, own_cache: Path) -> str:
    import tiny

    tiny.tiny_model(attention="sdpa").save_pretrained(tmp_path / "model")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def by_place(body: dict[str, Any]) -> dict[str, Any]:
    """80% for `base` where it stands first, 40% where it stands second; of the third instruction neither name is among the tokens."""
    shown = body["messages"][-1]["content"]
    if "Say three." in shown:
        return {"content": [{"token": "x", "logprob": -0.1, "top_logprobs": [{"token": "x", "logprob": -0.1}]}]}
    first = GOOD if shown.index("[answer m") < shown.index("[answer M") and "plain" not in shown.split("[answer M")[0] else 0.6
    return {"content": [{"token": "m", "logprob": math.log(0.9 * first), "top_logprobs": says(first, (" m", -9.0))}]}


def test_preferences_are_the_judges_probabilities(model: str, tmp_path: Path) -> None:
    with serving() as running:
        judging(running, by_place)
        recipe = setup(tmp_path, running.url)
        found = api.benchmark(model, ["alpaca-eval"], recipe, tmp_path / "out")["judged"]["alpaca_eval"]["base"]
        bodies = list(running.book.bodies.values())
        assert len(bodies) == 6
        assert all((b["max_tokens"], b["temperature"], b["logprobs"], b["top_logprobs"]) == (1, 1.0, True, asking.TOP) for b in bodies)
        before = len(bodies)
        api.benchmark(model, ["alpaca-eval"], recipe, tmp_path / "out", settings=["judge.alpaca_eval.order=seeded"])
        assert len(running.book.bodies) == before, "the journal has what either order needs"
    assert found["win_rate"] == pytest.approx(100 * (GOOD + 0.4) / 2) and found["n_null"] == 1
    assert found["order"]["win_rate_shown_first"] == pytest.approx(80.0) and found["order"]["win_rate_shown_second"] == pytest.approx(40.0)
    assert found["order"]["consistent"] == 0.0, "each time it is the other one that is the more probable"
    # in one order the rows are the original's: read again from the log-probabilities, they say the same
    file = tmp_path / "out" / "judge" / "data" / "alpaca_eval.base.annotations.json"
    rows = alpaca.read(file)
    assert {row.row["annotator"] for row in rows} == {"judge-1/zephyr-choice"} and rows[2].preference is None
    scored = alpaca_eval.score_file(file)
    assert (scored["order"]["rederived"], scored["order"]["of"]) == (3, 3)


@pytest.mark.parametrize(
    ("logprobs", "problem"),
    [
        (None, "judge: judge-1 is asked for log-probabilities, and the server gives none"),
        ({"content": None}, "the server gives none; take a judge that does, or have it judge in words"),
        ({"content": [{"token": "m", "logprob": -0.1}]}, "the server gives that of one token alone"),
        ({"content": [{"token": "m", "logprob": -0.1, "top_logprobs": []}]}, "the server gives that of one token alone"),
    ],
)
def test_an_endpoint_without_them_is_one_line_and_nothing_is_scored(model: str, tmp_path: Path, logprobs: Any, problem: str) -> None:
    with serving() as running:
        judging(running, lambda body: logprobs)
        recipe = setup(tmp_path, running.url)
        with pytest.raises(TeacherError, match=problem) as error:
            api.benchmark(model, ["alpaca-eval"], recipe, tmp_path / "out")
        assert "\n" not in str(error.value) and not (tmp_path / "out" / "judge").exists()
        sent = len(running.book.bodies)
        assert sent < 6 or running.book.most > 1, "nothing more is sent once it is known"
        # what was sent may have been paid for, and is counted so; with a server that gives them the same command goes on
        from zephyr.teachers.journal import NAME, peek

        totals = peek.totals(tmp_path / "out" / NAME)
        assert totals.calls == sent and totals.maybe > 0 and totals.spent == 0
        judging(running, by_place)
        found = api.benchmark(model, ["alpaca-eval"], recipe, tmp_path / "out")["judged"]["alpaca_eval"]["base"]
        assert found["n_total"] == 2


WITHHELD = {
    "a filter": {"message": {"content": ""}, "finish_reason": "content_filter", "logprobs": None},
    "a refusal": {"message": {"content": None, "refusal": "No."}, "finish_reason": "stop", "logprobs": {"content": None, "refusal": []}},
}


@pytest.mark.parametrize("choice", WITHHELD.values(), ids=WITHHELD)
def test_a_reply_that_is_withheld_has_no_verdict_and_the_others_go_on(model: str, tmp_path: Path, choice: dict[str, Any]) -> None:
    body = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}).encode()
    with serving() as running:
        judging(running, by_place)
        given = running.book.always
        running.book.always = lambda asked: (200, {}, body) if "Say two." in asked["messages"][-1]["content"] else given(asked)
        recipe = setup(tmp_path, running.url)
        result = api.benchmark(model, ["alpaca-eval"], recipe, tmp_path / "out")["judged"]
    assert (result["alpaca_eval"]["base"]["n_total"], result["alpaca_eval"]["base"]["n_null"]) == (1, 2)


@pytest.mark.parametrize("choice", WITHHELD.values(), ids=WITHHELD)
def test_what_a_withheld_reply_took_is_believed(choice: dict[str, Any]) -> None:
    """No tokens of none; and a server that gives no log-probabilities of what it did say is still one that gives none."""
    from zephyr.recipe import APIConfig
    from zephyr.teachers import Request, response

    config = APIConfig(kind="api", base_url="http://h/v1", model="m")
    request = Request("rate", "p", ({"role": "user", "content": "m or M?"},), top_logprobs=5, max_new_tokens=1)
    tokens = 1 if choice["message"].get("refusal") else 0

    def read(choice: dict[str, Any]) -> Any:
        value = {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}
        return response.read(config, request, 200, json.dumps(value).encode(), lambda text: text)

    answer = read(choice)
    assert (answer.text, answer.completion_tokens, answer.usage_known) == ("[]", tokens, True)
    assert asking.preference_of_choice(answer.text) is None
    closed = read({"message": {"content": "m"}, "finish_reason": "stop", "logprobs": None})
    assert isinstance(closed, response.Trouble) and closed.kind == "closed"


def test_a_server_that_refuses_the_request_is_quoted(model: str, tmp_path: Path) -> None:
    with serving() as running:
        body = json.dumps({"error": {"message": "logprobs are not supported with this model"}}).encode()
        running.book.always = lambda _: (400, {}, body)
        with pytest.raises(TeacherError, match="logprobs are not supported with this model"):
            api.benchmark(model, ["alpaca-eval"], setup(tmp_path, running.url), tmp_path / "out")


def test_what_is_no_log_probability_is_passed_over() -> None:
    """Of tokens that are none, and numbers that are none, nothing is made; a reply without tokens has no preference."""
    from zephyr.recipe import APIConfig
    from zephyr.teachers import Request, response

    config = APIConfig(kind="api", base_url="http://h/v1", model="m")
    request = Request("rate", "p", ({"role": "user", "content": "m or M?"},), top_logprobs=5, max_new_tokens=1)
    strange = [{"token": "m", "logprob": float("nan")}, {"token": 3, "logprob": -1}, {"token": "M", "logprob": True}, "m"]
    top = [*strange, {"token": "M", "logprob": -(10**400)}, {"token": "M", "logprob": -2.0}]

    def read(content: Any) -> Any:
        return response.read(config, request, 200, completion("", {"content": content}), lambda text: text)

    answer = read([{"token": "M", "logprob": -2.0, "top_logprobs": top}])
    assert isinstance(answer, response.Answer) and json.loads(answer.text) == [{"token": "M", "logprob": -2.0}]
    assert asking.preference_of_choice(answer.text) == 2.0
    assert asking.preference_of_choice(read([]).text) is None and asking.preference_of_choice("") is None
