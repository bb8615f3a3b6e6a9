"""Where rows come from: files, folders, hub names, artifacts and what ships with the package.

Every row is read with the place it came from (`file:line`), so that an error can name it. A row that is not
what it should be stops the stage, or is set aside and counted where the recipe says `invalid: drop`.

names       what a source is called, and what that stands for
splits      which rows are for training and which for the test
contents    what a source holds: its files or splits, and a hash of it all
reading     its rows
collecting  the records of several sources
"""

from zephyr.sources.collecting import Collector, Identified, Located, collect, gather, in_both, reason_of, unusable
from zephyr.sources.contents import ASIDE, Part, digest
from zephyr.sources.names import BUILTIN, HUB_FILE, named, names_of, note_unpinned, resolve
from zephyr.sources.reading import divided, located, rename, rows
from zephyr.sources.splits import split_of

__all__ = [
    "ASIDE",
    "BUILTIN",
    "HUB_FILE",
    "Collector",
    "Identified",
    "Located",
    "Part",
    "collect",
    "digest",
    "divided",
    "gather",
    "in_both",
    "located",
    "named",
    "names_of",
    "note_unpinned",
    "reason_of",
    "rename",
    "resolve",
    "rows",
    "split_of",
    "unusable",
]
