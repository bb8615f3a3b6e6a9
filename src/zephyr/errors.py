"""What can go wrong, said in one line: what, where, and what to do next.

Every error a user can cause derives from `ZephyrError`; the command line prints its message without a
traceback (unless `--debug`) and exits with its `exit_code`.
"""


class ZephyrError(Exception):
    """An error whose message a user can act on. Exit code 1."""

    exit_code = 1


class UsageError(ZephyrError, ValueError):
    """The command or the recipe is wrong: nothing was started. Exit code 2."""

    exit_code = 2


class DataError(ZephyrError, ValueError):
    """Rows that cannot be used as they are. The message names the file and the line."""


class ModelError(ZephyrError, ValueError):
    """A model folder or name that cannot be used."""


class ArtifactError(ZephyrError, RuntimeError):
    """An artifact on disk that does not match its manifest."""


class NonFiniteError(ZephyrError, RuntimeError):
    """A loss or a gradient became NaN or infinite; training stopped before the update."""


class TeacherError(ZephyrError, RuntimeError):
    """A teacher did not answer, for a reason that asking on would not mend."""


class BudgetError(ZephyrError):
    """The next call might cost more than the budget has left. Exit code 3."""

    exit_code = 3


class LeaderGoneError(ZephyrError):
    """Of several processes the first has ended, which says itself why."""
