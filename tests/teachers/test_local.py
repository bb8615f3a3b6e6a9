"""A model that answers in this process: each answer has random numbers of its own, and they are those of its distribution."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

import small
import tiny
from zephyr.models.generate import pick_by_name
from zephyr.recipe import TeacherConfig
from zephyr.teachers import Request
from zephyr.teachers.local import LocalTeacher

PROMPTS = [f"{question} Say it {'very ' * i}briefly." for i, (question, _) in enumerate(small.QUESTIONS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = small.model_folder(tmp_path_factory.mktemp("local") / "model")
    tiny.byte_tokenizer().save_pretrained(made)
    return made


def answers(
    folder: Path, prompts: list[str], *, name: str = "one", seed: int = 0, temperature: float = 1.0, top_p: float = 1.0
) -> dict[str, str]:
    config = TeacherConfig(kind="local", path=str(folder), max_new_tokens=12, temperature=temperature, top_p=top_p)
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
    (reply,) = LocalTeacher("one", TeacherConfig(kind="local", path=str(folder)), 0).answer([request])
    assert (reply.text, reply.finish_reason, reply.tokens) == ("", "refused", 0)
    assert reply.problem == "turn 0 (user) contains the control token '<|im_end|>'"
