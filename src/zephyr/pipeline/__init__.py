"""The order of the stages, what is already done, what comes next.

graph       which stages a recipe asks for, and in which order
work        a stage with its settings, its inputs and the folder it writes
current     whether what stands there is just that
up_front    what has to be there before the first stage runs
first_rows  whether a stage can read its sources
one         one stage is run, and published; by several processes where they were started
whole       a recipe is taken through its stages, or it is said what that would do
"""

from zephyr.pipeline.current import why_not_done
from zephyr.pipeline.graph import STAGES, module_of, out_of, selected, stages_of
from zephyr.pipeline.one import DONE, RAN, WOULD_RUN, Outcome, alone_at, execute, follow, named, rows_in_words, run_one, run_single
from zephyr.pipeline.whole import plan, run, summary
from zephyr.pipeline.work import FINGERPRINTS, Work, bind, bound

__all__ = [
    "DONE",
    "FINGERPRINTS",
    "RAN",
    "STAGES",
    "WOULD_RUN",
    "Outcome",
    "Work",
    "alone_at",
    "bind",
    "bound",
    "execute",
    "follow",
    "module_of",
    "named",
    "out_of",
    "plan",
    "rows_in_words",
    "run",
    "run_one",
    "run_single",
    "selected",
    "stages_of",
    "summary",
    "why_not_done",
]
