"""The objectives beside DPO: their papers' equations one number at a time, and TRL on the same batch."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from zephyr.objectives import cdpo, dpo, ipo, simpo
from zephyr.recipe import DPOConfig
from zephyr.train.batches import branching, flatten
from zephyr.train.head import head_loss
from zephyr.train.logprobs import sequence_sums, stream_hidden, stream_logprobs
from zephyr.train.tasks import Pair, preferences


def log_sigmoid(x: float) -> float:
    return -(max(-x, 0.0) + math.log1p(math.exp(-abs(x))))


def rows(size: int = 32) -> list[list[float]]:
    """Policy and reference of chosen and rejected, as summed log-probabilities."""
    rng = random.Random(0)
    reference = [[-rng.uniform(10, 500) for _ in range(size)] for _ in range(2)]
    policy = [[r + rng.gauss(0, 20) for r in side] for side in reference]
    return [list(row) for row in zip(*policy, *reference, strict=True)]


def columns(values: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*values, strict=True)]


def test_cdpo_is_its_equation_and_dpo_at_zero() -> None:
    a, b, c, d = columns(rows())
    margins = [0.1 * ((pc - rc) - (pr - rr)) for pc, pr, rc, rr in rows()]
    want = [-0.8 * log_sigmoid(m) - 0.2 * log_sigmoid(-m) for m in margins]
    assert cdpo(a, b, c, d, beta=0.1, label_smoothing=0.2).tolist() == pytest.approx(want, rel=1e-12)
    assert torch.equal(cdpo(a, b, c, d, beta=0.1, label_smoothing=0.0), dpo(a, b, c, d, beta=0.1))


def test_cdpo_is_least_where_the_odds_are_those_of_the_labels() -> None:
    """Mitchell 2023: the optimum is at sigmoid(beta m) = 1 - e, not at infinity."""
    margin_B = torch.linspace(0, 40, 4001, dtype=torch.float64)
    zero = torch.zeros_like(margin_B)
    best = margin_B[cdpo(margin_B, zero, zero, zero, beta=0.1, label_smoothing=0.2).argmin()]
    assert float(torch.sigmoid(0.1 * best)) == pytest.approx(0.8, abs=1e-3)


def test_ipo_is_its_equation() -> None:
    a, b, c, d = columns(rows())
    want = [((pc - rc) - (pr - rr) - 1 / (2 * 0.1)) ** 2 for pc, pr, rc, rr in rows()]
    assert ipo(a, b, c, d, beta=0.1).tolist() == pytest.approx(want, rel=1e-12)
    assert ipo(c, d, c, d, beta=0.1).tolist() == [25.0] * 32


def test_simpo_is_its_equation() -> None:
    a, b, _, _ = columns(rows())
    want = [-log_sigmoid(2.0 * (pc - pr) - 0.5) for pc, pr, _, _ in rows()]
    assert simpo(a, b, beta=2.0, gamma=0.5).tolist() == pytest.approx(want, rel=1e-12)


# --- as a recipe names them --------------------------------------------------------------------------------------


def triples(size: int = 5) -> list[tuple[list[int], list[int], list[int]]]:
    rng = random.Random(1)
    return [tuple([rng.randrange(5, 480) for _ in range(rng.randint(2, high))] for high in (20, 30, 30)) for _ in range(size)]  # type: ignore[misc]


def pairs_of(reference: Any) -> list[Pair]:
    made = []
    with torch.no_grad():
        for i, row in enumerate(triples()):
            stream = flatten([branching(*row)])
            chosen, rejected = sequence_sums(stream_logprobs(reference, stream), stream).tolist()
            made.append(Pair(str(i), branching(*row), chosen, rejected))
    return made


def our_loss(model: Any, reference: Any, config: DPOConfig) -> torch.Tensor:
    items = pairs_of(reference)
    stream = flatten([p.answers for p in items])
    return head_loss(model, stream_hidden(model, stream), stream, items, preferences(config), 1 / len(items))[0]


@pytest.mark.parametrize("objective", ["dpo", "cdpo", "ipo", "simpo"])
def test_the_settings_of_a_recipe_reach_their_objective(objective: Any) -> None:
    """None of them as it is by default, and no two alike: one that is left out or in another's place gives another loss."""
    read = {"cdpo": {"label_smoothing": 0.2}, "simpo": {"gamma": 0.7}}
    task = preferences(DPOConfig(objective=objective, beta=0.3, **read.get(objective, {})))
    items = [Pair(str(i), branching([1], [2] * 3, [3] * 5), c, d) for i, (_, _, c, d) in enumerate(rows())]
    sums_S = torch.tensor([x for a, b, _, _ in rows() for x in (a, b)], dtype=torch.float64)
    want = 0.0
    for a, b, c, d in rows():
        margin = (a - c) - (b - d)
        want += {
            "dpo": -log_sigmoid(0.3 * margin),
            "cdpo": -0.8 * log_sigmoid(0.3 * margin) - 0.2 * log_sigmoid(-0.3 * margin),
            "ipo": ((a - c) / 3 - (b - d) / 5 - 1 / (2 * 0.3)) ** 2,
            "simpo": -log_sigmoid(0.3 * (a / 3 - b / 5) - 0.7),
        }[objective]
    assert float(task.loss(sums_S, items)) == pytest.approx(want, rel=1e-12)


def test_simpo_is_by_mean_and_without_a_reference() -> None:
    model = tiny.tiny_model(seed=1)
    config = DPOConfig(objective="simpo", beta=2.0, gamma=0.5)
    losses = [float(our_loss(model, tiny.tiny_model(seed=seed), config).detach()) for seed in (2, 3)]
    assert losses[0] == losses[1]
    want = 0.0
    for item in pairs_of(model):
        lengths = item.answers.targets
        want -= log_sigmoid(2.0 * (item.reference_chosen / lengths[0] - item.reference_rejected / lengths[1]) - 0.5) / 5
    assert losses[0] == pytest.approx(want, rel=1e-6)


def test_simpos_reward_is_its_own() -> None:
    """What is shown while it trains: beta times the mean log-probability a token, whatever the reference, which it does not have."""
    task = preferences(DPOConfig(objective="simpo", beta=2.0))
    items = [Pair(str(i), branching([1], answer, [4]), math.nan, math.nan) for i, answer in enumerate(([2, 3], [2, 3], [2, 3, 3]))]
    tokens = [p.answers.targets for p in items]
    sums_S = torch.tensor([x for chosen, rejected in tokens for x in (-3.0 * chosen, -4.0 * rejected)], dtype=torch.float64)
    sums_S[0] *= 4 / 3  # the first pair is a tie
    stats = task.stats(sums_S, items)
    assert stats["accuracy"] == 2.5 and stats["margin"] == pytest.approx(0 + 2 + 2)
    assert (stats["chosen_reward"], stats["rejected_reward"]) == pytest.approx((-8 - 6 - 6, 3 * -8.0))
    assert math.isfinite(float(task.loss(sums_S, items)))


def test_simpos_ties_are_what_float32_cannot_tell_apart_per_token() -> None:
    """Rounding of sums grows with the number of tokens, and so do the sums; per token what counts as equal is a millionth of a mean."""
    task = preferences(DPOConfig(objective="simpo", beta=2.0))
    answers = ([2] * 99, [2] * 99, [2] * 99, [2] * 9)
    items = [Pair(str(i), branching([1], answer, [3] * 49), math.nan, math.nan) for i, answer in enumerate(answers)]
    # means of -3 nats and a little: within rounding to either side, and well beyond it though it would be lost among the sums
    means = [(-3.0 + 4e-6, -3.0), (-3.0 - 4e-6, -3.0), (-3.0 + 4e-5, -3.0), (-3.0 - 4e-5, -3.0)]
    tokens = [p.answers.targets for p in items]
    sums_S = torch.tensor(
        [m * n for row, its in zip(means, tokens, strict=True) for m, n in zip(row, its, strict=True)], dtype=torch.float64
    )
    wins = [task.stats(sums_S[2 * i : 2 * i + 2], [item])["accuracy"] for i, item in enumerate(items)]
    assert wins == [0.5, 0.5, 1.0, 0.0]


# `sigmoid` reads no label_smoothing there. `robust` does: with e the share and L, R the losses of a label and of its reverse it is
# ((1 - e) L - e R) / (1 - 2 e), so that 2 (1 - e) sigmoid - (1 - 2 e) robust is (1 - e) L + e R, which is cdpo
CDPO = {"loss_type": ["sigmoid", "robust"], "loss_weights": [1.6, -0.6], "label_smoothing": 0.2}


@pytest.mark.parametrize(
    ("ours_is", "theirs_is"),
    [
        ({"objective": "dpo"}, {"loss_type": ["sigmoid"]}),
        ({"objective": "cdpo", "label_smoothing": 0.2}, CDPO),
        ({"objective": "ipo"}, {"loss_type": ["ipo"]}),
    ],
    ids=["dpo", "cdpo", "ipo"],
)
def test_equals_trl(ours_is: dict[str, Any], theirs_is: dict[str, Any], tmp_path: Path) -> None:
    """Loss and gradients of TRL's trainer in float32, through our shared prompts and one-pass head."""
    pytest.importorskip("trl", reason="TRL, the peer that this test compares with, is not installed")
    from datasets import Dataset
    from trl import DPOConfig as TRLConfig
    from trl import DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    ours = tiny.tiny_model(seed=1)
    loss = our_loss(ours, tiny.tiny_model(seed=2), DPOConfig(beta=0.1, **ours_is))
    loss.backward()
    row = {
        side: [{"role": role, "content": "a"}] for side, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    }
    trainer = DPOTrainer(
        model=tiny.tiny_model(seed=1, attention="sdpa"),
        ref_model=tiny.tiny_model(seed=2, attention="sdpa"),
        args=TRLConfig(
            output_dir=str(tmp_path),
            beta=0.1,
            **theirs_is,
            use_cpu=True,
            bf16=False,
            report_to="none",
            activation_checkpointing=False,
        ),
        train_dataset=Dataset.from_list([row]),  # it wants one; the batch below is what is compared
        processing_class=tiny.byte_tokenizer(),
    )
    inputs = DataCollatorForPreference(pad_token_id=0)([{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in triples()])
    theirs = trainer.compute_loss(trainer.model, inputs)
    theirs.backward()
    assert float(loss.detach()) == pytest.approx(float(theirs.detach()), rel=1e-6)
    for (name, mine), other in zip(ours.named_parameters(), trainer.model.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        assert (mine.grad - other.grad).norm() < 1e-5 * other.grad.norm(), name
