"""Entropy and mass against the whole distribution in float64; what each test row gave sums to the numbers of the evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import tiny
from zephyr.artifacts import Artifact
from zephyr.evals import displacement, items, sharpness
from zephyr.evals.preference import Group
from zephyr.evals.statistics import ratio
from zephyr.train.batches import branching, flatten
from zephyr.train.logprobs import stream_logprobs

if TYPE_CHECKING:
    from conftest import SmallRun

SHARPER = 3  # times the random weights: about as sharp as a trained model


@pytest.mark.parametrize("softcap", [None, 9.0])
def test_entropy_and_mass_are_those_of_the_whole_distribution(softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every token of answers that share a prompt, in blocks of an odd size, with sharp logits: dense, in float64, sorted."""
    monkeypatch.setattr(sharpness, "BLOCK", 5)
    model, plain = tiny.tiny_model("llama").eval(), tiny.tiny_model("llama", attention="eager").eval()
    for one in (model, plain):
        with torch.no_grad():
            one.get_output_embeddings().weight.mul_(SHARPER)
    if softcap is not None:
        model.config.final_logit_softcapping = softcap
    examples = [branching(range(10, 17), range(20, 29), range(40, 44)), branching(range(5, 8), range(60, 66))]
    found_NK = sharpness.stream_sharpness(model, flatten(examples))
    assert torch.equal(found_NK[:, 0], stream_logprobs(model, flatten(examples))), "bit for bit"

    want = []
    for example in examples:
        for branch in example.branches:
            ids = torch.tensor([[*example.ids, *branch]])
            with torch.no_grad():
                hidden_TD = plain.base_model(input_ids=ids).last_hidden_state[0, len(example.ids) - 1 : -1].double()
            logits_TV = hidden_TD @ plain.get_output_embeddings().weight.double().T
            p_TV = (logits_TV if softcap is None else softcap * torch.tanh(logits_TV / softcap)).softmax(-1)
            ordered_TV = p_TV.sort(descending=True).values
            want.append(torch.stack([-(p_TV * p_TV.log()).sum(1), ordered_TV[:, 0], ordered_TV[:, :10].sum(1)], 1))
    torch.testing.assert_close(found_NK[:, 1:].double(), torch.cat(want), rtol=2e-5, atol=2e-6)
    assert 0.1 < float(found_NK[:, 2].mean()) < 0.95, "neither flat nor certain, so that the comparison means something"


def test_rows_sum_to_the_numbers_of_the_evaluation(small_run: SmallRun) -> None:
    artifact = Artifact.open(small_run.out / "evaluate")
    scores, by = artifact.manifest.results, items.grouped(artifact.rows(items.SPLIT))
    names = {"nll": "nll_per_token", "reward_accuracy": "accuracy", "reward_margin": "mean"}
    for measure, key in names.items():
        for model, found in scores[measure].items():
            estimate = ratio([(row["value"], row["n"]) for row in by[measure, model].values()])
            assert estimate is not None and estimate.value == pytest.approx(found[key], abs=1e-12)
            if measure == "reward_margin":
                assert estimate.ci95 == pytest.approx(found["ci95"])
    for model, found in scores["sharpness"].items():
        for measure in sharpness.MEASURES:
            estimate = ratio([(row["value"], row["n"]) for row in by[measure, model].values()])
            assert estimate is not None and estimate.value == pytest.approx(found[measure]["mean"], abs=1e-12)
        assert 0 < found["top1"]["mean"] < found["top10"]["mean"] <= 1
    row = next(r for r in artifact.rows(items.SPLIT) if r["measure"] == "reward_accuracy" and r["model"] == "ddpo")
    pairs = [(a, b) for a in range(4) for b in range(4) if row["scores"][a] > row["scores"][b]]
    assert row["n"] == len(pairs)
    assert row["value"] == sum(
        1.0 if row["values"][a] > row["values"][b] else 0.5 * (row["values"][a] == row["values"][b]) for a, b in pairs
    )


def test_displacement_is_of_the_best_and_the_worst_answer() -> None:
    def group(name: str, *scores: float) -> Group:
        return Group(name, name, "", (), tuple((str(i), score) for i, score in enumerate(scores)))

    groups = [group("a", 2.0, 5.0, 1.0), group("b", 1.0, 3.0), group("tied", 4.0, 4.0)]
    before = [[-10.0, -20.0, -30.0], [-5.0, -6.0], [-1.0, -1.0]]
    after = [[-90.0, -22.0, -37.0], [-6.0, -5.0], [-99.0, -99.0]]
    found = displacement.displacement(groups, after, before, [[4, 4, 5], [5, 4], [1, 1]])
    assert found["better"]["mean"] == pytest.approx((-2 + 1) / 2) and found["better"]["share_down"] == 0.5
    assert found["worse"]["mean"] == pytest.approx((-7 - 1) / 2) and found["worse"]["per_token"] == pytest.approx(-8 / 10)
    assert found["better"]["prompts"] == 2 and found["worse"]["share_down"] == 1.0
    assert displacement.displacement(groups[2:], after[2:], before[2:], [[1, 1]]) == {}


def test_pairs_of_one_prompt_are_one_where_displacement_is_concerned() -> None:
    changes = {"a": [1.0, 2.0, 3.0], "b": [-4.0, -5.0], "c": [7.0]}
    groups = [Group(name, name, "", (), ((f"{i}", 2.0), (f"-{i}", 1.0))) for name, each in changes.items() for i in range(len(each))]
    after = [[change, 0.0] for each in changes.values() for change in each]
    found = displacement.displacement(groups, after, [[0.0, 0.0]] * 6, [[5, 5]] * 6)["better"]
    by_prompt = ratio([(sum(each), len(each)) for each in changes.values()])
    assert by_prompt is not None and (found["mean"], found["ci95"]) == (by_prompt.value, by_prompt.ci95)
    assert (found["prompts"], found["answers"]) == (3, 6)
