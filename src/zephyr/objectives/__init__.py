"""Preference objectives: one small pure function each."""

from zephyr.objectives.cdpo import cdpo
from zephyr.objectives.dpo import dpo
from zephyr.objectives.ipo import ipo
from zephyr.objectives.simpo import simpo

__all__ = ["cdpo", "dpo", "ipo", "simpo"]
