"""The commands; no logic.

Everything heavy is imported inside the command that needs it, so that `zephyr --help` answers at once.

Exit codes: 0 well, 1 failed (or an audit found something), 2 used wrongly, 3 a budget was reached, 130 interrupted (Ctrl-C),
143 ended by SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from zephyr import world
from zephyr.cli.base import InterruptedCommandError, app
from zephyr.errors import LeaderGoneError, NonFiniteError, ZephyrError
from zephyr.guards import is_out_of_memory, memory_error, os_error

# isort: off
# imported for what that does (F401): each adds its commands, in the order in which the help shows them
from zephyr.cli import runs  # noqa: F401
from zephyr.cli import recipes  # noqa: F401
from zephyr.cli import stages  # noqa: F401
from zephyr.cli import evaluation  # noqa: F401
from zephyr.cli import reports  # noqa: F401
from zephyr.cli import data  # noqa: F401
from zephyr.cli import score  # noqa: F401
from zephyr.cli import benchmarks  # noqa: F401
from zephyr.cli import reproduce  # noqa: F401
from zephyr.cli import models  # noqa: F401
# isort: on


def _explain(error: BaseException) -> tuple[str, int]:
    """One line for the user, and the exit code."""
    if isinstance(error, InterruptedCommandError | KeyboardInterrupt):
        stage, goes_on = getattr(error, "stage", ""), getattr(error, "goes_on", False)
        kept, place = ("finished stages and what this one has done so far are", " from there") if goes_on else ("finished stages are", "")
        during = f" in {stage}; {kept} kept, run the same command again to go on{place}" if stage else ""
        return f"interrupted{during}", int(getattr(error, "exit_code", 130))
    if isinstance(error, ZephyrError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return os_error(error), 1
    text = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if world.started().size > 1 and isinstance(error, RuntimeError) and ("gloo" in text or "NCCL" in text):
        return "another process of this job has ended; its own message says why", 1
    if is_out_of_memory(error):
        return memory_error(error), 1
    return f"a defect of zephyr, please report it: {text} (--debug shows where)", 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: errors become one line on stderr and an exit code.

    Args:
        arguments: those of the process, if None. `--debug` may stand anywhere among them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app(args=[argument for argument in given if argument != "--debug"], prog_name="zephyr")
    except (KeyboardInterrupt, Exception) as error:
        if debug:
            import traceback

            traceback.print_exc()
        text, code = _explain(error)
        here = world.started()
        # what the others were told by the first, or are told together with it, it says itself
        if here.leads:
            print(f"zephyr: {text}", file=sys.stderr)
        elif not (world.in_step() or isinstance(error, LeaderGoneError | NonFiniteError | InterruptedCommandError)):
            print(f"zephyr, process {here.rank}: {text}", file=sys.stderr)
        sys.exit(code)
