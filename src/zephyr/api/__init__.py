"""What the commands do, for Python.

import zephyr
result = zephyr.run("recipes/demo.yaml", ["sft.epochs=2"], out="runs/two")
result["scores"]["reward_accuracy"]["ddpo"]["ci95"]
"""

from zephyr.api.base import Result
from zephyr.api.evaluation import benchmark, evaluate
from zephyr.api.reports import report, trace
from zephyr.api.reproduction import reproduce
from zephyr.api.runs import init, plan, run
from zephyr.api.stages import stage, synthesize
from zephyr.api.words import describe

__all__ = [
    "Result",
    "benchmark",
    "describe",
    "evaluate",
    "init",
    "plan",
    "report",
    "reproduce",
    "run",
    "stage",
    "synthesize",
    "trace",
]
