"""Where the dialogues that are learnt from come from."""

from __future__ import annotations

from zephyr.recipe.base import Source
from zephyr.recipe.curation import Curation


class CurateConfig(Curation):
    """Which dialogues are learnt from."""

    # where the dialogues come from; several sources are a mixture. Unset: a `synthesize` section makes them
    data: list[Source] = []
