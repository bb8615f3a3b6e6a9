"""What was asked of teachers, what came back, and what it cost: one SQLite file a run, a row a request.

A request is written down as `sent` before it leaves, and an answer is durable before anybody sees it. Whatever moment a
process dies at, the journal says which requests are `answered` (never sent again), `failed` (no answer, and none was paid
for) or `unknown` (sent, no answer known: it may have been paid for). Several processes may share it.

hold     a process's hold on it: writing, within the budget
peek     looking in, without a hold
owners   which processes are alive
entries  what is written, and what is there
tables   the tables, and the connection to them
"""

from zephyr.teachers.journal.entries import NANO, Kept, Sending, Settled, Totals
from zephyr.teachers.journal.hold import OVER_BUDGET, SENT, TAKEN, Journal, over_budget
from zephyr.teachers.journal.tables import NAME, NewerJournalError

__all__ = [
    "NAME",
    "NANO",
    "OVER_BUDGET",
    "SENT",
    "TAKEN",
    "Journal",
    "Kept",
    "NewerJournalError",
    "Sending",
    "Settled",
    "Totals",
    "over_budget",
]
