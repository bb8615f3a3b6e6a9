"""IFEval: does an answer follow instructions that a program can check? No judge is asked, and equal answers give equal scores.

Prompts come from the user's file or from the hub; none ships with the package.
"""

from __future__ import annotations

from zephyr.evals.ifeval.instructions import INSTRUCTIONS as INSTRUCTIONS
from zephyr.evals.ifeval.instructions import Asked as Asked
from zephyr.evals.ifeval.items import Answered as Answered
from zephyr.evals.ifeval.items import Item as Item
from zephyr.evals.ifeval.items import parse_item as parse_item
from zephyr.evals.ifeval.items import read_items as read_items
from zephyr.evals.ifeval.items import read_responses as read_responses
from zephyr.evals.ifeval.run import score as score
from zephyr.evals.ifeval.run import score_items as score_items
from zephyr.evals.ifeval.score import Verdict as Verdict
from zephyr.evals.ifeval.score import describe as describe
from zephyr.evals.ifeval.score import difference as difference
from zephyr.evals.ifeval.score import judge as judge
from zephyr.evals.ifeval.score import loosened as loosened
from zephyr.evals.ifeval.score import summary as summary
