"""What a run will ask of paid teachers: calls, tokens and money by stage and teacher, before a cent is spent.

Calls are counted from the real prompts, less those whose answers the journal has. Tokens that will be sent are counted as a quarter
of the characters ("about"), and at most as many as the texts have bytes; tokens that will come back are at most what the recipe
allows, and about what the same teacher's answers in the journal had on average, where it has enough of them.

whole       all stages, their sums and the budget, as figures and in words
dialogues   what `synthesize` will ask
feedback    what `complete` and `rate` will ask
benchmarks  what `answer` and `judge` will ask
lines       a teacher's requests, counted and priced
"""

from zephyr.spending.lines import Line
from zephyr.spending.whole import describe, plan

__all__ = ["Line", "describe", "plan"]
