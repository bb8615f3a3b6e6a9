"""The loss and its gradients in one pass equal the plain way: all logits, log_softmax, autograd."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from zephyr.objectives import dpo
from zephyr.train import head
from zephyr.train.batches import Example, branching, flatten
from zephyr.train.head import head_loss, tiles
from zephyr.train.logprobs import block_of, output_softcap, sequence_sums, stream_hidden
from zephyr.train.tasks import SFT, Dialogues, Pair, Preferences


def pairs(n: int = 6) -> list[Pair]:
    rng = random.Random(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 480) for _ in range(rng.randint(low, high)))

    return [Pair(f"p{i}", branching(ids(1, 9), ids(1, 40), ids(1, 40)), rng.gauss(-150, 30), rng.gauss(-150, 30)) for i in range(n)]


def dialogues(n: int = 5) -> list[Dialogues]:
    rng = random.Random(1)
    made = []
    for i in range(n):
        lengths = [rng.randint(1, 30) for _ in range(rng.randint(1, 3))]
        made.append(Dialogues(f"d{i}", tuple(Example(tuple(rng.randrange(3, 480) for _ in range(k)), (True,) * k) for k in lengths)))
    return made


def plain(model: Any, items: Sequence[Any], task: Any, scale: float) -> tuple[Tensor, Tensor]:
    stream = flatten([e for item in items for e in item.examples])
    logits_NV = model.get_output_embeddings()(stream_hidden(model, stream))
    if cap := output_softcap(model):
        logits_NV = cap * torch.tanh(logits_NV / cap)
    chosen_N = torch.log_softmax(logits_NV.double(), -1).gather(1, stream.target_N[:, None])[:, 0]
    sums_S = sequence_sums(chosen_N, stream)
    return task.loss(sums_S, items) * scale, sums_S


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("tile_tokens", [1, 7, 30, 90, 10_000])
@pytest.mark.parametrize("arch", ["llama", "gemma2"])
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_equals_autograd_whatever_the_tile(kind: str, arch: str, tile_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.tiny_model(arch)
    vocabulary = len(model.get_output_embeddings().weight)
    monkeypatch.setattr(head, "TILE_BYTES", 4 * vocabulary * tile_tokens)
    items: Sequence[Any] = pairs() if kind == "dpo" else dialogues()
    task: Any = Preferences(partial(dpo, beta=0.1), 0.1) if kind == "dpo" else SFT()
    stream = flatten([e for item in items for e in item.examples])
    loss, sums_S = head_loss(model, stream_hidden(model, stream), stream, items, task, 0.37)
    ours = gradients(model, loss)
    want, want_S = plain(model, items, task, 0.37)
    theirs = gradients(model, want)
    assert loss.dtype == sums_S.dtype == torch.float64
    assert float(loss.detach()) == pytest.approx(float(want.detach()), rel=1e-6)
    torch.testing.assert_close(sums_S, want_S, rtol=1e-6, atol=1e-5)
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def test_long_answers_are_summed_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are learnt, too: the type of the result would not show a sum that was made in float32."""
    values: list[float] = []

    def watched(*args: Any) -> Any:
        found = block_of(*args)
        values.extend(found.logprob_B.tolist())
        return found

    monkeypatch.setattr(head, "block_of", watched)
    answers = [[3 + (i * i) % 480 for i in range(n)] for n in (3000, 2000)]
    items, model = [Pair("long", branching([1], *answers), -2e4, -1e4)], tiny.tiny_model()
    stream, hidden_ND = flatten([items[0].answers]), torch.randn(5000, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, sums_S = head_loss(model, hidden_ND, stream, items, Preferences(partial(dpo, beta=0.1), 0.1), 1.0)
    assert sums_S.tolist() == pytest.approx([math.fsum(values[:3000]), math.fsum(values[3000:])], rel=1e-13)


def test_a_frozen_matrix_gets_no_gradient_and_the_hidden_states_still_do() -> None:
    model = tiny.tiny_model(tie_word_embeddings=False)
    model.get_output_embeddings().weight.requires_grad_(False)
    stream = flatten([p.answers for p in pairs()])
    hidden_ND = stream_hidden(model, stream).detach().requires_grad_()
    loss, _ = head_loss(model, hidden_ND, stream, pairs(), Preferences(partial(dpo, beta=0.1), 0.1), 1.0)
    loss.backward()
    assert model.get_output_embeddings().weight.grad is None
    assert hidden_ND.grad is not None and float(hidden_ND.grad.norm()) > 0


def test_without_gradients_none_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "block_of", lambda *args: replace(block_of(*args), d_logits=None))  # calling it would fail
    model, stream = tiny.tiny_model(), flatten([p.answers for p in pairs()])
    with torch.no_grad():
        loss, sums_S = head_loss(model, stream_hidden(model, stream), stream, pairs(), Preferences(partial(dpo, beta=0.1), 0.1), 1.0)
    assert not loss.requires_grad and len(sums_S) == 12


def test_a_second_backward_fails_rather_than_counting_twice() -> None:
    model, stream = tiny.tiny_model(), flatten([p.answers for p in pairs()])
    loss, _ = head_loss(model, stream_hidden(model, stream), stream, pairs(), Preferences(partial(dpo, beta=0.1), 0.1), 1.0)
    loss.backward(retain_graph=True)
    with pytest.raises((RuntimeError, TypeError)):
        loss.backward()


def test_tiles_hold_whole_items_within_the_limit() -> None:
    items = pairs(9)
    targets = [sum(p.answers.targets) for p in items]
    for limit in (1, 60, 100, 10_000):
        made = list(tiles(items, limit))
        assert [i for t in made for i in range(t.items.start, t.items.stop)] == list(range(9))
        for t in made:
            inside = targets[t.items]
            assert t.sequences == slice(2 * t.items.start, 2 * t.items.stop)
            assert t.positions == slice(sum(targets[: t.items.start]), sum(targets[: t.items.stop]))
            assert sum(inside) <= limit or len(inside) == 1
        assert all(sum(targets[a.items] + targets[b.items][:1]) > limit for a, b in itertools.pairwise(made))
    assert list(tiles([], 5)) == []
