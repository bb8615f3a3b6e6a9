"""Preference objectives: one small pure function each."""

from zephyr.objectives.dpo import dpo

__all__ = ["dpo"]
