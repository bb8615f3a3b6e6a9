"""Reading recipes: a recipe in full, and two beside each other, in words."""

from __future__ import annotations

from zephyr.recipes.compare import compare as compare
from zephyr.recipes.compare import describe as describe
from zephyr.recipes.meaning import meaning_of as meaning_of
from zephyr.recipes.show import shown as shown
from zephyr.recipes.volume import Volume as Volume
from zephyr.recipes.volume import volumes as volumes
