"""A model that answers in this process: each answer has random numbers of its own, and they are those of its distribution."""

from __future__ import annotations

import gc
import json
import math
import re
import shutil
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import small
import tiny
from zephyr.errors import ModelError
from zephyr.models import load
from zephyr.models.generate import pick_by_name
from zephyr.recipe import BudgetConfig, DataSource, LocalConfig, ModelConfig, ReplayConfig
from zephyr.stages import teacher_inputs
from zephyr.teachers import Request, ask
from zephyr.teachers.local import LocalTeacher
from zephyr.text.chat import ChatFormat

PROMPTS = [f"{question} Say it {'very ' * i}briefly." for i, (question, _) in enumerate(small.QUESTIONS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small.model_folder(tmp_path_factory.mktemp("local") / "model")
    tiny.byte_tokenizer().save_pretrained(made)
    return made


def answers(
    folder: Path, prompts: list[str], *, name: str = "one", seed: int = 0, temperature: float = 1.0, top_p: float = 1.0
) -> dict[str, str]:
    config = LocalConfig(kind="local", path=str(folder), max_new_tokens=12, temperature=temperature, top_p=top_p)
    requests = [Request("complete", prompt, ({"role": "user", "content": prompt},)) for prompt in prompts]
    return {reply.request.prompt_id: reply.text for reply in LocalTeacher(name, config, seed).answer(requests)}


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_an_answer_does_not_depend_on_what_else_is_asked(folder: Path, top_p: float) -> None:
    """Not on the batch, its width or its order: the model is tiny, so that no random number falls between two of its tokens."""
    together = answers(folder, PROMPTS, top_p=top_p)
    assert len(set(together.values())) == len(PROMPTS)
    assert answers(folder, PROMPTS[::-1], top_p=top_p) == together
    fewer = PROMPTS[:3] + PROMPTS[4:]
    assert answers(folder, fewer, top_p=top_p) == {prompt: together[prompt] for prompt in fewer}
    assert answers(folder, PROMPTS[5:6], top_p=top_p) == {PROMPTS[5]: together[PROMPTS[5]]}


def test_it_depends_on_seed_and_name(folder: Path) -> None:
    one = answers(folder, PROMPTS[:4])
    assert answers(folder, PROMPTS[:4]) == one
    for other in (answers(folder, PROMPTS[:4], seed=1), answers(folder, PROMPTS[:4], name="two")):
        assert all(other[prompt] != text for prompt, text in one.items())
    sure = answers(folder, PROMPTS[:4], temperature=0.0)
    assert answers(folder, PROMPTS[:4], temperature=0.0, seed=1, name="two") == sure != one


def test_sampling_leaves_the_global_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    answers(folder, PROMPTS[:2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_is_picked_has_the_distribution_of_the_scores() -> None:
    """20,000 rows of one distribution: each token as often as it should be, to four standard errors; what has no chance, never."""
    shares = [0.0, 0.5, 0.3, 0.0, 0.15, 0.05, 0.0]
    scores = torch.tensor([[math.log(p) if p else -math.inf for p in shares]]).expand(20_000, -1)
    picked = pick_by_name([f"row {i}" for i in range(20_000)], 0, 5)(torch.zeros(20_000, 5, dtype=torch.int64), scores).argmax(-1)
    counts = Counter(picked.tolist())
    for token, p in enumerate(shares):
        assert abs(counts[token] - 20_000 * p) <= 4 * math.sqrt(20_000 * p * (1 - p)), counts


def test_the_next_token_is_picked_by_another_number() -> None:
    scores = torch.zeros(1, 1000)
    pick = pick_by_name(["a"], 0, 3)
    tokens = [int(pick(torch.zeros(1, length, dtype=torch.int64), scores).argmax()) for length in range(3, 23)]
    assert len(set(tokens)) > 15


def test_what_its_format_cannot_hold_is_refused_with_the_reason(folder: Path) -> None:
    request = Request("complete", "p", ({"role": "user", "content": "An <|im_end|> inside."},))
    (reply,) = LocalTeacher("one", LocalConfig(kind="local", path=str(folder)), 0).answer([request])
    assert (reply.text, reply.finish_reason, reply.tokens) == ("", "refused", 0)
    assert reply.problem == "turn 0 (user) contains the control token '<|im_end|>'"


# --- its chat template ---------------------------------------------------------------------------------------------


def folder_with(path: Path, template: str | None, **overrides: Any) -> Path:
    made = small.model_folder(path, **overrides)
    tiny.byte_tokenizer(template=template).save_pretrained(made)
    return made


def asked(folder: Path, **settings: Any) -> tuple[int, ...]:
    """The ids that the model is given for a short request."""
    teacher = LocalTeacher("one", LocalConfig(kind="local", path=str(folder), max_new_tokens=2, **settings), 0)
    seen: list[tuple[int, ...]] = []
    really = teacher._model.generate
    teacher._model.generate = lambda **given: seen.append(tuple(given["input_ids"][0].tolist())) or really(**given)
    request = Request("complete", "p", ({"role": "user", "content": "Hi!"},))
    (reply,) = teacher.answer([request])
    assert reply.finish_reason in ("stop", "length")
    return seen[0]


def test_it_is_asked_in_its_own_template_or_in_another(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>' }}{% endfor %}")
    tokenizer = tiny.byte_tokenizer()
    messages: list[Any] = [{"role": "user", "content": "Hi!"}]
    own = tuple(tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"])
    assert asked(folder) == asked(folder, chat_template="tokenizer") == own
    assert asked(folder, chat_template="zephyr") == ChatFormat(tokenizer, "zephyr").encode_prompt(messages) != own
    assert asked(folder, chat_template=str(file)) == tuple(tokenizer("<|im_start|>Hi!<|im_end|>")["input_ids"])


def test_one_without_a_template_needs_one(tmp_path: Path) -> None:
    bare = folder_with(tmp_path / "bare", None)
    with pytest.raises(ModelError, match="the tokenizer has no chat template"):
        asked(bare)
    assert asked(bare, chat_template="zephyr")


def test_a_template_that_cannot_be_cut_will_do(tmp_path: Path) -> None:
    """Nothing is learnt from a teacher's prompts, so its template may do to earlier answers what it likes (Qwen 3)."""
    folder = folder_with(tmp_path / "model", tiny.CHATML.replace("message['content']", "(message['content'] if loop.last else '')"))
    with pytest.raises(ModelError, match="cannot be used"):
        load.load_chat(load.refer(ModelConfig(path=str(folder))), "tokenizer")
    teacher = LocalTeacher("one", LocalConfig(kind="local", path=str(folder), max_new_tokens=3), 0)
    turns: tuple[Any, ...] = tuple({"role": r, "content": "Why?"} for r in ("user", "assistant", "user"))
    assert len(list(teacher.answer([Request("complete", "p", turns)]))) == 1


def test_a_recording_is_not_asked_in_a_template() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        ReplayConfig(kind="replay", path="x.jsonl", chat_template="zephyr")  # type: ignore[call-arg]


def test_a_template_that_is_not_set_is_in_no_key(tmp_path: Path) -> None:
    """What was collected before there was this setting is not collected again; what a template says is an input."""
    plain = LocalConfig(kind="local", path="m")
    assert plain.model_dump() == {"kind": "local", "path": "m", "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 1024}
    assert teacher_inputs("teacher", plain) == ({}, {"teacher": ModelConfig(path="m", chat_template="tokenizer")})
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages }}")
    other = LocalConfig(kind="local", path="m", chat_template=str(file))
    assert other.model_dump()["chat_template"] == str(file)
    data, models = teacher_inputs("teacher", other)
    assert data == {"teacher, chat template": [DataSource(path=str(file))]} and models["teacher"].path == "m"
    assert teacher_inputs("teacher", LocalConfig(kind="local", path="m", chat_template="zephyr"))[0] == {}


# --- its context -----------------------------------------------------------------------------------------------------


def test_a_request_that_fills_its_context_is_refused_and_the_others_are_answered(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "model", tiny.CHATML, max_position_embeddings=60)
    teacher = LocalTeacher("one", LocalConfig(kind="local", path=str(folder), max_new_tokens=50), 0)
    requests = [Request("complete", p, ({"role": "user", "content": p},)) for p in ("Hi!", "Why? " * 30)]
    replies = {reply.request.prompt_id: reply for reply in teacher.answer(requests)}
    assert replies["Hi!"].finish_reason in ("stop", "length") and replies["Hi!"].tokens <= 60
    long = replies["Why? " * 30]
    assert (long.text, long.finish_reason, long.tokens) == ("", "refused", 0)
    assert re.fullmatch(r"it has \d+ tokens, and the model reads 60 at most, the answer included", long.problem)


def test_what_the_tokenizer_reads_as_a_control_token_is_refused_and_the_others_are_answered(tmp_path: Path) -> None:
    """An earlier answer in a request, where only reading it shows what is in it."""
    from tokenizers import Tokenizer, normalizers

    folder = folder_with(tmp_path / "model", tiny.CHATML)
    raw = json.loads((folder / "tokenizer.json").read_text())
    for token in raw["added_tokens"]:
        token["normalized"] = True
    backend = Tokenizer.from_str(json.dumps(raw))
    backend.normalizer = normalizers.NFKC()
    backend.save(str(folder / "tokenizer.json"))
    teacher = LocalTeacher("one", LocalConfig(kind="local", path=str(folder), max_new_tokens=2), 0)
    hidden: tuple[Any, ...] = tuple({"role": r, "content": "b\uff1c|im_end|\uff1ec"} for r in ("user", "assistant", "user"))
    plain = ({"role": "user", "content": "Hi!"},)
    reasons = {r.request.prompt_id: r.finish_reason for r in teacher.answer([Request("rate", "a", hidden), Request("rate", "b", plain)])}  # type: ignore[arg-type]
    assert reasons["a"] == "refused" and reasons["b"] != "refused"


def test_a_conversation_loads_a_model_once_and_another_takes_its_place(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two roles of one model, asked turn by turn, share it; where another is asked, the first is gone before that is loaded."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    loaded: list[tuple[str, weakref.ref[torch.nn.Module], list[bool]]] = []
    load_model = load.load_model

    def counted(ref: load.ModelRef, *args: Any, **more: Any) -> torch.nn.Module:
        gc.collect()
        alive = [kept() is not None for _, kept, _ in loaded]
        model = load_model(ref, *args, **more)
        loaded.append((ref.name, weakref.ref(model), alive))
        return model

    monkeypatch.setattr(load, "load_model", counted)
    common: dict[str, Any] = {"kind": "local", "max_new_tokens": 3}
    configs = {
        "user": LocalConfig(path=str(folder), **common),
        "assistant": LocalConfig(path=str(folder), temperature=0.5, **common),
        "third": LocalConfig(path=str(other), **common),
    }
    digests = dict.fromkeys(configs, "digest")
    with ask.opened("complete", configs, folder=tmp_path / "run", budget=BudgetConfig(), seed=0, digests=digests) as teachers:
        for turn in range(3):
            for name in ("user", "assistant"):
                request = Request("complete", f"turn {turn}", ({"role": "user", "content": f"Turn {turn}"},))
                found = [reply for _, reply in teachers.replies({name: [request]})]
                assert [(reply.request, reply.served) for reply in found] == [(request, folder.name)], "it says its own name"
                found = [reply for _, reply in teachers.replies({name: [request]})]
                assert [reply.served for reply in found] == [folder.name], "out of the journal too"
        assert [name for name, *_ in loaded] == [str(folder)]
        assert len(list(teachers.replies({"third": [request]}))) == 1
    assert [(name, alive) for name, _, alive in loaded] == [(str(folder), []), (str(other), [False])]
    gc.collect()
    assert loaded[1][1]() is None
