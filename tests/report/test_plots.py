"""The curves: which there are, what they are made of, and that they fit any page."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import fake_run
import matplotlib
import pytest

from zephyr.report import plots


def test_all_curves_of_a_log() -> None:
    charts = plots.dpo_charts(fake_run.log("dpo"))
    assert [c.name for c in charts] == ["dpo-loss", "accuracy", "margin", "logps", "rewards"]
    logps = next(c for c in charts if c.name == "logps")
    assert [c.label for c in logps.curves] == ["chosen, train", "rejected, train", "chosen, test", "rejected, test"]
    assert charts[0].ends == (21.0, 42.0)


def test_curve_has_the_values_of_the_log() -> None:
    log = [
        {"kind": "train", "step": 2, "loss": 1.5},
        {"kind": "test", "step": 0, "loss": 3.0},
        {"kind": "train", "step": 1, "loss": 2.0},
        {"kind": "other", "step": 3, "loss": 9.0},
    ]
    (chart,) = plots.sft_charts(log)
    assert [(c.kind, c.points) for c in chart.curves] == [("train", ((1.0, 2.0), (2.0, 1.5))), ("test", ((0.0, 3.0),))]


def test_values_that_are_not_numbers_are_left_out() -> None:
    log = [{"kind": "train", "step": s, "loss": v} for s, v in enumerate([1.0, math.nan, None, math.inf, 0.5])]
    (chart,) = plots.sft_charts(log)
    assert chart.curves[0].points == ((0.0, 1.0), (4.0, 0.5))


def test_no_log_gives_no_curve() -> None:
    assert plots.sft_charts([]) == []
    assert plots.dpo_charts([{"kind": "train", "step": 1, "loss": None}]) == []


def test_long_curve_is_thinned_to_means_and_says_so() -> None:
    log = [{"kind": "train", "step": s, "loss": float(s % 2)} for s in range(1000)]
    (chart,) = plots.sft_charts(log)
    assert len(chart.curves[0].points) == 200
    assert chart.curves[0].points[0] == (2.0, 0.4)
    assert "mean of 5 steps" in chart.thinned
    assert "train (means of 5 steps) from 0.400 to 0.600" in chart.described


def test_test_curves_are_never_thinned() -> None:
    """What is described as their end is the last value, not a mean of the last few."""
    log = [{"kind": kind, "step": s, "loss": float(s)} for s in range(1000) for kind in ("train", "test")]
    (chart,) = plots.sft_charts(log)
    train, test = chart.curves
    assert len(train.points) == 200 and (len(test.points), test.points[-1]) == (1000, (999.0, 999.0))
    assert "test from 0.000 to 999.000" in chart.described and "over steps 0 to 999" in chart.described
    assert chart.thinned == "A point on train is the mean of 5 steps."


@pytest.mark.parametrize(
    ("objective", "beta", "unit", "start"),
    [
        ("dpo", 0.1, "nats per pair", math.log(2)),
        ("cdpo", 0.1, "nats per pair", math.log(2)),
        ("ipo", 0.5, "squared nats per pair", 1.0),
        ("ipo", None, "squared nats per pair", None),
        ("simpo", 2.0, "nats per pair", None),
    ],
)
def test_the_guide_is_where_the_objective_starts(objective: str, beta: float | None, unit: str, start: float | None) -> None:
    loss = plots.dpo_charts(fake_run.log("dpo"), objective, beta)[0]
    assert loss.unit == unit
    assert (loss.guide and loss.guide[0]) == start


@pytest.mark.parametrize("objective", ["dpo", "cdpo", "ipo"])
def test_the_start_is_what_the_objective_says_of_a_policy_that_is_the_reference(objective: str) -> None:
    import torch

    from zephyr.recipe import DPOConfig
    from zephyr.train.batches import branching
    from zephyr.train.tasks import Pair, preferences

    config = DPOConfig.model_validate({"objective": objective, "beta": 0.3})
    pair = Pair("a", branching([1], [2, 3], [4]), -4.0, -7.0)
    loss = preferences(config).loss(torch.tensor([-4.0, -7.0], dtype=torch.float64), [pair])
    guide = plots.dpo_charts(fake_run.log("dpo"), objective, config.beta)[0].guide
    assert guide is not None and guide[0] == pytest.approx(float(loss))


def test_picture_is_one_well_formed_element_in_the_colours_of_the_page() -> None:
    for chart in [*plots.sft_charts(fake_run.log("sft")), *plots.dpo_charts(fake_run.log("dpo"))]:
        text = chart.svg()
        root = ET.fromstring(text)
        assert root.tag == "svg"
        assert root.attrib["role"] == "img"
        for stand_in in plots.COLOURS.values():
            assert stand_in not in text
        assert "var(--grid)" in text
        # neither matplotlib's black and white nor its font: they would be illegible in the dark, or foreign
        assert "#ffffff" not in text
        assert "#000000" not in text
        assert "DejaVu" not in text
        assert "metadata" not in text
        assert [e.text for e in root.iter("text") if e.text == "step"] == ["step"]


def test_picture_does_not_depend_on_the_users_matplotlib() -> None:
    (chart,) = plots.sft_charts(fake_run.log("sft"))
    plain = chart.svg()
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "svg.hashsalt": "other"}):
        assert chart.svg() == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_whisker_keeps_to_its_scale() -> None:
    text = plots.whisker(0.9, (0.5, 1.4), (0.0, 1.0), 0.5, "ddpo")
    root = ET.fromstring(text)
    line = next(e for e in root if e.attrib.get("class") == "range")
    assert (line.attrib["x1"], line.attrib["x2"]) == ("80.00", "154.00")
    assert next(e for e in root if e.tag == "circle").attrib["cx"] == "139.20"
