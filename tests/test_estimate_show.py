"""A plan in words: what is trained stands with the parameters, bytes by kind stand for each number of devices, assumptions one by one."""

from __future__ import annotations

from typing import Any

from zephyr.estimate import show


def stage(name: str, devices: tuple[int, ...], *, trained: int = 700, refused: tuple[int, ...] = ()) -> dict[str, Any]:
    def way(gpu: str, count: int) -> dict[str, Any]:
        kinds = {"weights": (64 << 30) // count, "peak": 64 << 30}
        why = "on one device alone" if count in refused else None
        return {"gpu": gpu, "devices": count, "bytes": kinds, "peak_bytes": 64 << 30, "fits": not why, "refused": why, "hours": 1.0}

    ways = [way(gpu, count) for count in devices for gpu in ("h200", "l40s")]
    counts = dict.fromkeys(("rows", "tokens", "steps", "looked_tokens"), 1)
    return {"stage": name, **counts, "flops": 1.33e19, "trained_parameters": trained, "ways": ways, "advice": []}


def described(*stages: dict[str, Any]) -> list[str]:
    found = {"model": "m", "parameters": 700, "stages": stages, "here": None, "unknown": [], "assumptions": ["one, thing", "another"]}
    return show.describe(found).splitlines()


def test_weights_that_learn_are_told_with_the_parameters() -> None:
    assert described(stage("sft", (1,)), stage("dpo", (1,)))[0] == "training of m: 700 parameters"
    both = described(stage("sft", (1,), trained=40), stage("dpo", (1,), trained=40))
    assert both[0] == "training of m: 700 parameters, 40 weights trained in sft and dpo"
    assert both[1].endswith("1.33e+19 floating-point operations")
    one, two = stage("sft", (1,), trained=40), stage("dpo", (1,), trained=50)
    assert described(one, two)[0] == "training of m: 700 parameters, 40 weights trained in sft, 50 weights trained in dpo"


def test_bytes_by_kind_of_up_to_three_numbers_of_devices() -> None:
    def kinds(of: dict[str, Any]) -> list[str]:
        return [line for line in described(of) if "GiB a device" in line]

    assert kinds(stage("sft", (1, 8, 16))) == [f"  sft on {n}, GiB a device: weights {64 / n:.1f}" for n in (1, 8, 16)]
    assert kinds(stage("sft", (8, 8))) == ["  sft on 8, GiB a device: weights 8.0"]
    assert kinds(stage("sft", (2, 4, 8, 16))) == ["  sft on 2, GiB a device (--json has the others): weights 32.0"]
    assert kinds(stage("sft", (1, 8), refused=(8,))) == ["  sft on 1, GiB a device: weights 64.0"]  # a dash in the table


def test_each_assumption_has_a_line() -> None:
    assert described(stage("sft", (1,)))[-3:] == ["assumed:", "  one, thing", "  another"]
