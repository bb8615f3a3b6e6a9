"""Where the dialogues that are learnt from come from."""

from __future__ import annotations

from pydantic import Field

from zephyr.recipe.base import Invalid, Section, Share, Source


class CurateConfig(Section):
    """Which dialogues are learnt from."""

    data: list[Source] = Field(min_length=1)
    # for sources that name no split: this share of prompts, chosen by hash, is kept for the test
    test_fraction: Share = 0.1
    invalid: Invalid = "error"
