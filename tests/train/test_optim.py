"""Learning rates, the optimizer's groups, and the number format."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import tiny
from zephyr.recipe import SFTConfig
from zephyr.train import precision
from zephyr.train.optim import adamw, clear_gradients, learning_rate


def rates(steps: int, **settings: Any) -> list[float]:
    config = SFTConfig(learning_rate=1.0, **settings)
    return [learning_rate(step, steps, config) for step in range(steps)]


def test_known_values() -> None:
    assert rates(5, schedule="constant", warmup_ratio=0.0) == [1, 1, 1, 1, 1]
    assert rates(5, schedule="linear", warmup_ratio=0.0) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert rates(4, schedule="cosine", warmup_ratio=0.0) == pytest.approx([1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])
    assert rates(6, schedule="linear", warmup_ratio=0.34) == pytest.approx([0.25, 0.5, 0.75, 1, 2 / 3, 1 / 3])
    assert rates(4, schedule="constant", warmup_ratio=1.0) == pytest.approx([0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 272])
def test_every_update_moves_and_the_peak_is_reached(schedule: str, steps: int) -> None:
    values = rates(steps, schedule=schedule, warmup_ratio=0.1)
    assert all(0 < value <= 1 for value in values)
    warmup = math.ceil(steps / 10)
    assert values[: warmup + 1] == sorted(values[: warmup + 1])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    if steps > 1:
        assert max(values) == 1.0
    if steps == 272 and schedule != "constant":
        assert values[-1] < 0.01


def test_warm_up_is_a_whole_number_of_steps_whatever_binary_fractions_say() -> None:
    assert 0.07 * 100 > 7
    assert rates(100, schedule="constant", warmup_ratio=0.07).index(1.0) == 7


def test_norms_and_biases_do_not_decay_and_tied_weights_are_one() -> None:
    model = tiny.tiny_model(attention_bias=True)
    optimizer = adamw(model, SFTConfig(learning_rate=1e-3, weight_decay=0.1, adam_betas=[0.8, 0.9], adam_epsilon=1e-6))
    decaying, others = optimizer.param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 1 for p in others["params"]) and all(p.ndim == 2 for p in decaying["params"])
    assert len(decaying["params"]) + len(others["params"]) == len(list(model.parameters())) == len({id(p) for p in model.parameters()})
    assert (decaying["betas"], decaying["eps"]) == ((0.8, 0.9), 1e-6)


def test_one_step_is_adamw() -> None:
    """Loshchilov & Hutter 2019, Algorithm 2, by hand in float64."""
    weight = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        weight.weight.copy_(torch.tensor([[1.0, -2.0]]))
    optimizer = adamw(weight, SFTConfig(learning_rate=0.1, weight_decay=0.5, adam_betas=[0.9, 0.99], adam_epsilon=1e-8))
    weight.weight.grad = torch.tensor([[0.3, -0.4]])
    optimizer.step()
    want = [w * (1 - 0.1 * 0.5) - 0.1 * g / (math.sqrt(g * g) + 1e-8) for w, g in ((1.0, 0.3), (-2.0, -0.4))]
    assert weight.weight.tolist()[0] == pytest.approx(want, rel=1e-6)


def test_gradients_that_are_kept_stay_in_their_place_and_change_no_update() -> None:
    def trained(*, keep: bool) -> tuple[list[torch.Tensor], set[int]]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer, places = adamw(model, SFTConfig(learning_rate=0.1, weight_decay=0.1)), set()
        clear_gradients(optimizer, keep=keep)
        for _ in range(3):
            for _ in range(2):
                model(torch.randn(4, 3)).square().mean().backward()  # type: ignore[no-untyped-call]
            places |= {p.grad.data_ptr() for p in model.parameters() if p.grad is not None}
            optimizer.step()
            clear_gradients(optimizer, keep=keep)
            assert all(
                torch.equal(p.grad, torch.zeros_like(p)) if keep and p.grad is not None else p.grad is None for p in model.parameters()
            )
        return [p.detach().clone() for p in model.parameters()], places

    (kept, places), (fresh, _) = trained(keep=True), trained(keep=False)
    assert len(places) == 2 and all(map(torch.equal, kept, fresh))


def test_the_number_format_is_as_asked_or_the_faster_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert precision.resolve_dtype("float32", "cpu") is torch.float32
    assert precision.resolve_dtype("bfloat16", "cpu") is torch.bfloat16
    assert capsys.readouterr().err == ""
    for rates, want in (
        ({torch.float32: 100e9, torch.bfloat16: 131e9}, torch.bfloat16),
        ({torch.float32: 100e9, torch.bfloat16: 129e9}, torch.float32),
    ):
        precision._fastest.cache_clear()
        monkeypatch.setattr(precision, "matmul_rates", lambda *_, rates=rates: rates)
        assert precision.resolve_dtype("auto", "cpu") is want
    assert "dtype: float32 (matrix products: float32 100, bfloat16 129 GFLOP/s)" in capsys.readouterr().err
    precision.resolve_dtype("auto", "cpu")
    assert capsys.readouterr().err == "", "measured once a process"
    precision._fastest.cache_clear()


def test_a_first_product_that_is_held_up_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.accumulate(itertools.chain([1.0, 1.0, 1.0], itertools.repeat(0.001)))  # longer than all the time there is
    monkeypatch.setattr(precision.time, "perf_counter", lambda: next(clock))
    rates = precision.matmul_rates((torch.float32, torch.bfloat16), "cpu", 0.3)
    assert list(rates.values()) == pytest.approx([2 * precision.SIZE**3 / 0.001] * 2, rel=1e-6)


def test_a_measurement_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    assert precision.matmul_rate(torch.float32, "cpu", seconds=0.01) > 0
    assert torch.rand(1) == want
