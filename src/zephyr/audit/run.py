"""An audit: every row is read once, each check takes what it needs of it, and all say what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from zephyr import sources
from zephyr.audit.checks import Check, Item
from zephyr.audit.contamination import Contamination
from zephyr.audit.draws import Draws
from zephyr.audit.findings import EXAMPLES, LEVELS, Audit, Example, Finding, Level, excerpt
from zephyr.audit.judge import Judge
from zephyr.audit.lengths import Lengths
from zephyr.audit.ratings import Ratings
from zephyr.audit.repeated import Repeated
from zephyr.audit.rows import Pair, Rated, read_row
from zephyr.audit.rules import RULES, Judged
from zephyr.errors import DataError, UsageError
from zephyr.files import Unread
from zephyr.recipe import DataSource, known
from zephyr.records import Row
from zephyr.text.contamination import NGRAM, OVERLAP, Benchmarks

Given = str | Path | DataSource


def audit(
    paths: Given | Sequence[Given],
    *,
    test: Sequence[Given] = (),
    ratings: Sequence[Given] = (),
    against: Mapping[str, Given] | Sequence[str] = (),
    splits: Sequence[str] = (),
    ignore: Sequence[str] = (),
    ngram: int = NGRAM,
    overlap: float = OVERLAP,
) -> Audit:
    """Look for what is wrong with preference data.

    Args:
        paths: pairs, or rated answers: files, folders, artifacts, hub names. Rows that name no split count as train rows.
        test: the same, whose rows are test rows.
        ratings: the rated answers that the pairs were drawn from, all splits of each.
        against: benchmarks, by name; or as `mt-bench`, `FILE`, `NAME=FILE`, `owner/name` or `owner/name@revision`.
        splits: of the sources' own splits, these alone (`train_prefs`).
        ignore: names of findings that are no problem.
        ngram: how many words in a run, where prompts are compared with benchmarks.
        overlap: which share of a benchmark text's runs makes a match.

    Raises:
        UsageError: a file that is not there, or a name of no finding.
        DataError: a file that cannot be read, or without rows. A row that cannot be read is a finding.
    """
    main = [s for path in ([paths] if isinstance(paths, str | Path | DataSource) else paths) for s in _sources(path, splits)]
    held = [_source(path).model_copy(update={"split": "test"}) for path in test]
    benchmarks = benchmark_sources(against)
    draws, judge, ratings_of, unread = Draws(), Judge(), Ratings(), Unreadable()
    checks: list[Check] = [
        *map(Judged, RULES),
        ratings_of,
        Repeated(),
        Contamination(Benchmarks.read(benchmarks, n=ngram, overlap=overlap) if benchmarks else None),
        draws,
        Lengths(),
        judge,
    ]
    counts: Counter[str] = Counter()
    for path in ratings:
        for where, split, rated in _rated(_source(path), unread):
            counts["rated"] += 1
            draws.know(rated)
            judge.know(where, rated)
            ratings_of.see(Item(where, split, None, rated))
    by_split: Counter[str] = Counter()
    for item in _items([*main, *held], unread):
        by_split[item.split] += 1
        counts["pairs"] += item.pair is not None
        counts["rated"] += item.rated is not None
        for check in checks:
            check.see(item)
    names = [source.path for source in (*main, *held)]
    if not unread.rows:
        raise DataError(f"{', '.join(names)}: no rows to look at")
    findings = [unread.finding(), *(finding for check in checks for finding in check.findings())]
    if wrong := sorted(set(ignore) - {f.name for f in findings}):
        raise UsageError(f"{wrong[0]}: no finding has this name; they are {', '.join(f.name for f in findings)}")
    order = sorted(findings, key=lambda f: LEVELS.index(f.level))
    return Audit(tuple(names), unread.rows, counts["pairs"], counts["rated"], dict(sorted(by_split.items())), tuple(order), tuple(ignore))


class Unreadable:
    """Rows that hold neither a pair nor rated answers, or in a shape that is not known."""

    def __init__(self) -> None:
        self.rows = 0
        self._of = self._count = 0
        self._examples: list[Example] = []

    def read(self, where: str, row: Row | Unread) -> tuple[Pair | None, Rated | None] | None:
        """What a row holds; None, and it is counted, where it cannot be read."""
        self._of += 1
        problem = row.problem if isinstance(row, Unread) else ""
        if not isinstance(row, Unread):
            try:
                return read_row(row)
            except DataError as error:
                problem = str(error)
        self._count += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(Example(where, excerpt(problem, 160)))
        return None

    def finding(self) -> Finding:
        """How many there are."""
        says = "The row holds neither a pair nor rated answers, in any shape that is known."
        advice = "Mend these rows, or rename their columns to `prompt`, `chosen` and `rejected`."
        level: Level = "problem" if self._count else "clear"
        return Finding("unreadable", level, self._count, self._of, "rows", says, advice, tuple(self._examples))


def benchmark_sources(against: Mapping[str, Given] | Sequence[str]) -> dict[str, DataSource]:
    """Benchmarks by name: known ones, files, `NAME=FILE`, hub names."""
    if isinstance(against, Mapping):
        return {name: _source(given) for name, given in against.items()}
    return {name: DataSource(**fields) for name, fields in known.named(against).items()}


def _source(given: Given) -> DataSource:
    return given if isinstance(given, DataSource) else sources.named(str(given))


def _sources(given: Given, splits: Sequence[str]) -> list[DataSource]:
    source = _source(given)
    return [source.model_copy(update={"source_split": split}) for split in splits] or [source]


def _items(given: Iterable[DataSource], unread: Unreadable) -> Iterator[Item]:
    for source in given:
        try:
            for where, split, row in sources.located(source):
                unread.rows += 1
                if found := unread.read(where, row):
                    yield Item(where, split or "train", *found)
        except DataError as error:
            what, mark, _ = str(error).partition("; choose one: ")  # what follows is how a recipe would say it
            raise DataError(f"{what}; choose one with --split") from None if mark else error


def _rated(source: DataSource, unread: Unreadable) -> Iterator[tuple[str, str, Rated]]:
    for where, split, row in sources.located(source, whole=True):
        found = unread.read(where, row)
        if found and found[1] is None:
            raise DataError(f"{where}: no rated answers; the rows of --ratings have `completions`")
        if found and found[1]:
            yield where, split or "train", found[1]
