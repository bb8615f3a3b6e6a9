"""The training loop: what a step computes does not depend on how it is cut up, and it stops before harm is done."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch

import tiny
from zephyr.errors import NonFiniteError
from zephyr.objectives import dpo
from zephyr.recipe import DPOConfig, SFTConfig
from zephyr.recipe.training import number_of_looks
from zephyr.train.batches import Example, branching, flatten
from zephyr.train.logprobs import sequence_sums, stream_logprobs
from zephyr.train.loop import Trainer
from zephyr.train.tasks import SFT, Dialogues, Pair, Preferences


def example(rng: random.Random, length: int) -> Example:
    """Some tokens, of which the last two thirds or so are learnt."""
    start = rng.randrange(1, 1 + length // 2)
    return Example(tuple(rng.randrange(3, 480) for _ in range(length)), tuple(i >= start for i in range(length)))


def dialogues(n: int = 7, seed: int = 0) -> list[Dialogues]:
    """Of very different lengths: a mean of means would be wrong by far."""
    rng = random.Random(seed)
    return [Dialogues(f"d{i}", (example(rng, length),)) for i, length in zip(range(n), (3, 80, 11, 40, 5, 23, 60), strict=False)]


def pairs(model: Any, n: int = 5, seed: int = 0) -> list[Pair]:
    """With references a little off, so that the gradients of the pairs weigh differently."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        prompt, *answers = (tuple(rng.randrange(3, 480) for _ in range(rng.randrange(2, 40))) for _ in range(3))
        chosen, rejected = (logp + rng.gauss(0, 9) for logp in logprobs(model, branching(prompt, *answers)))
        made.append(Pair(f"p{i}", branching(prompt, *answers), chosen, rejected))
    return made


@torch.no_grad()
def logprobs(model: Any, one: Example) -> list[float]:
    stream = flatten([one])
    return sequence_sums(stream_logprobs(model, stream), stream).tolist()


def logprob(model: Any, one: Example) -> float:
    return logprobs(model, one)[0]


def trainer(
    model: Any, task: Any, budget: int = 10_000, log: Callable[[dict[str, Any]], None] | None = None, **settings: Any
) -> Trainer[Any]:
    kind = DPOConfig if isinstance(task, Preferences) else SFTConfig
    config = kind(**{"batch_size": 3, "learning_rate": 1e-2, "schedule": "constant", **settings})
    return Trainer(model, task, config, torch.float32, budget, 0, log or (lambda _: None))


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def relative(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Of the whole gradient."""
    difference = math.sqrt(sum(float((a[n] - b[n]).double().square().sum()) for n in a))
    return difference / math.sqrt(sum(float(b[n].double().square().sum()) for n in b))


# --- accumulation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("budget", [1, 64, 130])
def test_accumulation_equals_one_big_batch(kind: str, budget: int) -> None:
    whole, parts = tiny.tiny_model(), tiny.tiny_model()
    items: Sequence[Any] = dialogues() if kind == "sft" else pairs(whole)
    task: Any = SFT() if kind == "sft" else Preferences(partial(dpo, beta=0.1), 0.1)
    one = trainer(whole, task).accumulate(items)
    many = trainer(parts, task, budget).accumulate(items)
    assert relative(gradients(parts), gradients(whole)) < 1e-6
    assert many["loss"] == pytest.approx(one["loss"], rel=1e-6)


def test_the_mean_is_over_tokens_not_over_micro_batches_or_rows() -> None:
    model, items = tiny.tiny_model(), dialogues()
    stats = trainer(model, SFT(), 1).accumulate(items)
    tokens = [d.examples[0].targets[0] for d in items]
    losses = [-logprob(model, d.examples[0]) for d in items]
    assert stats["loss"] == pytest.approx(sum(losses) / sum(tokens), rel=1e-6)
    of_means = sum(x / n for x, n in zip(losses, tokens, strict=True)) / len(items)
    assert abs(stats["loss"] - of_means) > 1e-3, "the two means must differ for this test to tell them apart"


def test_the_mean_of_dpo_is_over_pairs() -> None:
    model = tiny.tiny_model()
    items = pairs(model)
    stats = trainer(model, Preferences(partial(dpo, beta=0.1), 0.1), 1).accumulate(items)
    losses = []
    for p in items:
        chosen, rejected = logprobs(model, p.answers)
        margin = 0.1 * ((chosen - p.reference_chosen) - (rejected - p.reference_rejected))
        losses.append(math.log1p(math.exp(-margin)))
    assert stats["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_packing_changes_neither_loss_nor_gradient() -> None:
    apart, packed = tiny.tiny_model(), tiny.tiny_model()
    items = dialogues()
    one = trainer(apart, SFT()).accumulate(items)
    packs = [Dialogues("+".join(d.id for d in items[i:j]), tuple(d.examples[0] for d in items[i:j])) for i, j in ((0, 3), (3, 4), (4, 7))]
    other = trainer(packed, SFT()).accumulate(packs)
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert relative(gradients(packed), gradients(apart)) < 1e-6


def test_tied_embeddings_get_both_contributions() -> None:
    """As input and as output: the same weights untied get the two halves of the sum."""
    tied, untied = tiny.tiny_model(tie_word_embeddings=True), tiny.tiny_model(tie_word_embeddings=False)
    untied.load_state_dict({**tied.state_dict(), "lm_head.weight": tied.get_input_embeddings().weight.detach().clone()})
    for model in (tied, untied):
        trainer(model, SFT()).accumulate(dialogues())
    as_input = untied.get_input_embeddings().weight.grad
    as_output = untied.get_output_embeddings().weight.grad
    assert as_input is not None and as_output is not None
    assert float(as_input.norm()) > 0 and float(as_output.norm()) > 0
    torch.testing.assert_close(tied.get_input_embeddings().weight.grad, as_input + as_output, rtol=1e-5, atol=1e-7)


# --- the length of a gradient ------------------------------------------------------------------------------------


def test_long_gradients_are_shortened_to_the_norm_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam hardly shows it in the weights: what the update is given is what counts. What is logged is the norm before."""
    used: list[float] = []
    step = torch.optim.AdamW.step

    def watched(self: Any, *args: Any) -> Any:
        parameters = [p for group in self.param_groups for p in group["params"]]
        used.append(math.sqrt(sum(float(p.grad.double().square().sum()) for p in parameters)))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    _, lines = run(0, epochs=1)
    norms = [line["grad_norm"] for line in lines if line["kind"] == "train"]
    assert used == pytest.approx([min(norm, 1.0) for norm in norms], rel=1e-4)
    limit = min(norms) / 2
    used.clear()
    run(0, epochs=1, max_grad_norm=limit)
    assert used == pytest.approx([limit] * len(norms), rel=1e-4)


# --- the first step ----------------------------------------------------------------------------------------------


def test_dpo_begins_at_ln_2_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.tiny_model()
    exact = [Pair(p.id, p.answers, *logprobs(model, p.answers)) for p in pairs(model)]
    for budget in (1, 100, 10_000):
        stats = trainer(model, Preferences(partial(dpo, beta=0.1), 0.1), budget).means(exact)
        assert stats["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert stats["margin"] == pytest.approx(0, abs=1e-5)
        assert stats["accuracy"] == 0.5, "rounding is no preference"


# --- stopping before harm ----------------------------------------------------------------------------------------


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def unchanged(model: Any, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(p.detach().nan_to_num(7.0), before[name].nan_to_num(7.0)) for name, p in model.named_parameters())


def test_a_reference_that_is_not_a_number_stops_before_the_update_and_names_the_pair() -> None:
    model = tiny.tiny_model()
    items = pairs(model, 6)
    bad = items[2]
    items[2] = Pair(bad.id, bad.answers, math.nan, bad.reference_rejected)
    before = weights(model)
    with pytest.raises(NonFiniteError, match=r"the loss is nan; stopped before the update\. Rows: .*p2") as stopped:
        trainer(model, Preferences(partial(dpo, beta=0.1), 0.1), 1, batch_size=6).train(items, [], "dDPO")
    assert "p1" not in str(stopped.value)
    assert unchanged(model, before)


def test_a_weight_that_is_not_a_number_stops_before_the_update_and_names_the_rows() -> None:
    model = tiny.tiny_model()
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = math.nan
    items = dialogues(6)
    clean = [Dialogues(d.id, tuple(Example(tuple(8 if t == 7 else t for t in e.ids), e.learnt) for e in d.examples)) for d in items]
    ids = list(clean[3].examples[0].ids)
    ids[1] = 7
    clean[3] = Dialogues("the bad one", (Example(tuple(ids), clean[3].examples[0].learnt),))
    before = weights(model)
    with pytest.raises(NonFiniteError, match="the loss is nan"):
        trainer(model, SFT(), 1, batch_size=6).train(clean, [], "dSFT")
    assert unchanged(model, before)


def test_rows_are_named_one_by_one() -> None:
    """An untied input embedding that is broken for one token spoils only the row that holds it."""
    model = tiny.tiny_model(tie_word_embeddings=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[7] = math.nan
    items = [Dialogues(f"row {i}", (Example((3, 4, 7 if i == 2 else 5, 6), (False, True, True, True)),)) for i in range(5)]
    with pytest.raises(NonFiniteError, match=r"Rows: row 2$"):
        trainer(model, SFT(), batch_size=5).accumulate(items)


def test_a_gradient_that_overflows_stops_before_the_update() -> None:
    model = tiny.tiny_model()
    before = weights(model)
    model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteError, match=r"step 1: the gradient is (nan|inf); stopped before the update\. Rows: d\d+$"):
        trainer(model, SFT()).train(dialogues(), [], "dSFT")
    assert unchanged(model, before)


def test_of_a_gradient_that_overflows_the_row_is_named_that_makes_it_do_so(capsys: pytest.CaptureFixture[str]) -> None:
    """One of twenty: the loss is finite, only the way back of its token is not."""
    model = tiny.tiny_model(tie_word_embeddings=False)
    items = [Dialogues(f"row {i}", (Example((3, 4, 7 if i == 13 else 5, 6), (False, True, True, True)),)) for i in range(20)]

    def overflowing(gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(gradient[7].any(), math.inf, 1.0) * gradient  # of the input embeddings: a row for each token

    model.get_input_embeddings().weight.register_hook(overflowing)
    with pytest.raises(NonFiniteError, match=r"step 1: .*stopped before the update\. Rows: row 13$"):
        trainer(model, SFT(), batch_size=20).train(items, [], "dSFT")
    assert "looking for the rows that make it so" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number_stops_after_its_pass() -> None:
    """Not at the end of the batch, which may be hours away."""
    model = tiny.tiny_model()
    items = pairs(model, 6)
    items[0] = Pair("bad", items[0].answers, math.nan, items[0].reference_rejected)
    passes: list[Any] = []
    model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    with pytest.raises(NonFiniteError, match=r"Rows: bad$"):
        trainer(model, Preferences(partial(dpo, beta=0.1), 0.1), 1, batch_size=6).accumulate(items)
    assert len(passes) == 1


def test_a_long_list_of_rows_is_cut_short() -> None:
    model = tiny.tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight[0] = math.nan
    items = [Dialogues(f"row {i}", (Example((3, 4, 5), (False, True, True)),)) for i in range(20)]
    with pytest.raises(NonFiniteError, match=r"row 7 and 12 more$"):
        trainer(model, SFT()).accumulate(items)


# --- the whole loop ----------------------------------------------------------------------------------------------


def run(
    seed: int, order: Callable[[list[Dialogues]], list[Dialogues]] = lambda d: d, **settings: Any
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    model, lines = tiny.tiny_model(), []
    training = trainer(model, SFT(), 100, lines.append, **{"epochs": 2, "evaluate_every": 2, **settings})
    training.seed = seed
    training.train(order(dialogues()), dialogues(3, seed=9), "dSFT")
    return weights(model), lines


def test_equal_seeds_give_equal_weights_and_the_order_of_rows_does_not_matter() -> None:
    one, lines = run(1)
    two, again = run(1, lambda d: d[::-1])
    other, _ = run(2)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert [{k: v for k, v in line.items() if k != "seconds"} for line in lines] == [
        {k: v for k, v in line.items() if k != "seconds"} for line in again
    ]


def test_what_is_logged() -> None:
    _, lines = run(0)
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == [1, 2, 3, 4, 5, 6]  # 7 rows, 3 a batch, 2 epochs
    assert [round(line["epoch"], 3) for line in train] == [0.333, 0.667, 1.0, 1.333, 1.667, 2.0]
    assert train[2]["tokens"] == train[5]["tokens"] / 2 == sum(len(d.examples[0].ids) for d in dialogues())
    assert [line["step"] for line in lines if line["kind"] == "test"] == [0, 2, 4, 6]
    assert train[-1]["loss"] < train[0]["loss"]
    assert all(line["grad_norm"] > 0 for line in train)


@pytest.mark.parametrize("every", [1, 4, 6, 100])
def test_the_test_rows_are_looked_at_as_often_as_is_counted(every: int) -> None:
    """What the plan and the comparison of recipes go by."""
    _, lines = run(0, evaluate_every=every)
    assert sum(line["kind"] == "test" for line in lines) == number_of_looks(6, every)


def test_every_row_is_seen_once_an_epoch() -> None:
    seen: list[str] = []

    class Watching(SFT):
        def stats(self, sums_S: torch.Tensor, items: Sequence[Dialogues]) -> Any:
            seen.extend(item.id for item in items)
            return super().stats(sums_S, items)

    trainer(tiny.tiny_model(), Watching(), epochs=3).train(dialogues(), [], "dSFT")
    epochs = [seen[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(e) == sorted(d.id for d in dialogues()) for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3


def test_a_look_changes_nothing() -> None:
    model = tiny.tiny_model(attention_dropout=0.5)
    model.train()
    before = weights(model)
    training = trainer(model, SFT())
    first, second = training.means(dialogues()), training.means(dialogues())
    assert first == second and unchanged(model, before) and model.training
    assert all(p.grad is None for p in model.parameters())
    assert training.means([]) == {}


def test_preferences_are_trained_without_dropout() -> None:
    """The reference was computed without: DPO begins at ln 2 on a model that has it, too."""
    model = tiny.tiny_model(attention_dropout=0.5)
    items = [Pair(p.id, p.answers, *logprobs(model.eval(), p.answers)) for p in pairs(model)]
    lines: list[dict[str, Any]] = []
    trainer(model, Preferences(partial(dpo, beta=0.1), 0.1), log=lines.append, batch_size=5).train(items, [], "dDPO")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
