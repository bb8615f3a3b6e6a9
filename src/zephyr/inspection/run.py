"""An inspection: every row is read once, and each count and sample takes what it needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from zephyr import files, progress
from zephyr.artifacts import MANIFEST
from zephyr.errors import DataError, UsageError
from zephyr.files import Unread
from zephyr.inspection import cards, kinds, likeness, read
from zephyr.inspection.cards import Card
from zephyr.inspection.case import Truecased
from zephyr.inspection.dialogues import DIALOGUES
from zephyr.inspection.distributions import Names, Numbers
from zephyr.inspection.found import Inspection, Origin
from zephyr.inspection.read import DROPPED, TRUECASED, Opened, Told
from zephyr.inspection.specimens import Kind, Specimen
from zephyr.inspection.strata import Grouping, Key, Lowest, Stratum
from zephyr.inspection.victims import Dropped, Preview
from zephyr.recipe import FilterConfig
from zephyr.records import Row

EACH, MOST_EACH = 3, 100
_CASES = 4  # times as many texts whose case was mended: they are short, and in no strata


def inspect(paths: str | Path | Sequence[str | Path], *, splits: Sequence[str] = (), samples: int = EACH, seed: int = 0) -> Inspection:
    """Look at data: dialogues, rated answers or pairs.

    Args:
        paths: files, folders, artifacts, hub names; all of one kind.
        splits: of the sources' own splits, these alone.
        samples: how many are shown of each stratum and of each reason, 1 to 100.
        seed: decides which.

    Raises:
        UsageError: a file that is not there, or the folder of a whole run.
        DataError: a file that cannot be read, rows of several kinds, or of none.
    """
    if not 1 <= samples <= MOST_EACH:
        raise UsageError(f"--samples {samples}: 1 to {MOST_EACH} of each stratum can be shown")
    names = [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    given = [one for name in names for one in read.opened(name, splits)]
    look, aside = _Look(samples, seed), _Aside(samples, seed)
    with read.told(given) as told:
        for one in given:
            for where, split, row in read.rows(one):
                look.see(where, split, row, tries_filters=not one.filtered)
                told.row()
        artifacts = {one.source.path: one for one in given if one.artifact and one.artifact.manifest.stage != "evaluate"}
        victims = tuple(_named(stratum, one, artifacts) for one in artifacts.values() for stratum in aside.see(one, told))
    kind = look.kind
    if kind is None or not look.specimens:
        faults = [f"{card.where}: {card.note}" for card in look.faults.values()[:1]]
        raise DataError("; ".join([f"{', '.join(names)}: no rows to look at", *faults]))
    return Inspection(
        sources=tuple(names),
        kind=kind,
        rows=look.rows,
        specimens=look.specimens,
        each=samples,
        seed=seed,
        unreadable=look.unreadable,
        faults=tuple(look.faults.values()),
        groupings=look.groupings,
        numbers=look.numbers,
        names=look.names,
        origins=tuple(_origin(one) for one in artifacts.values()),
        victims=victims,
        preview=look.preview if kind is DIALOGUES and look.preview.rows else None,
        truecased=aside.truecased if aside.truecased.dialogues or aside.truecased.skipped else None,
    )


def _named(stratum: Stratum, one: Opened, artifacts: Mapping[str, Opened]) -> Stratum:
    """Of several artifacts, a reason says of which it is."""
    return stratum if len(artifacts) == 1 else replace(stratum, label=f"{stratum.label} ({one.source.path})")


def _origin(one: Opened) -> Origin:
    assert one.artifact is not None
    m = one.artifact.manifest
    unknown = _filter_settings(one)[1]
    return Origin(one.source.path, m.stage, m.rows_in, m.rows_out, m.dropped, (*m.notes, *([unknown] if unknown else [])))


def _filter_settings(one: Opened) -> tuple[FilterConfig, str]:
    """What the filters went by that made an artifact, and a sentence where this version cannot tell."""
    settings = one.artifact.manifest.config.get("filter_settings") if one.artifact else None
    if not isinstance(settings, dict):
        return FilterConfig(), ""
    try:
        return FilterConfig.model_validate(settings), ""
    except ValidationError as error:
        names = ", ".join(dict.fromkeys(cards.line(".".join(map(str, e["loc"])), 60) for e in error.errors()))
        return FilterConfig(), (
            f"{one.source.path}: this version does not know the settings of its filters ({names}); where a filter has to be asked again "
            "what it found, it is asked with the default settings"
        )


class _Look:
    """All that is taken in of rows, one at a time."""

    def __init__(self, each: int, seed: int) -> None:
        self._each, self._seed = each, seed
        self._first = ""  # the place of the row that decided the kind
        self.kind: Kind | None = None
        self.rows = self.specimens = self.unreadable = 0
        self.faults: Lowest[Card] = Lowest(each)
        self.preview = Preview(each)
        self.groupings: dict[str, Grouping] = {}
        self.numbers: dict[str, Numbers] = {}
        self.names: dict[str, Names] = {}

    def see(self, where: str, split: str | None, row: Row | Unread, *, tries_filters: bool) -> None:
        """A row."""
        self.rows += 1
        found = self._read(where, split, row)
        keys = [Key.of(self._seed, specimen.where, specimen.texts) for specimen in found]
        if tries_filters and self.kind in (None, DIALOGUES):
            self.preview.see(keys[0] if keys else Key.of(self._seed, where, [repr(row)]), row)
        for key, specimen in zip(keys, found, strict=True):
            self._take(key, specimen)

    def _read(self, where: str, split: str | None, row: Row | Unread) -> list[Specimen]:
        """What there is to look at in a row; what cannot be read is counted."""
        if isinstance(row, Unread):
            return self._refuse(where, row.row, row.problem)
        kind = kinds.kind_of(row)
        if kind is None:
            return self._refuse(where, row, read.unknown(row))
        self._settle(where, kind)
        try:
            return list(kind.read(where, split, row))
        except DataError as error:
            return self._refuse(where, row, str(error))

    def _settle(self, where: str, kind: Kind) -> None:
        """The first row decides what all are."""
        if self.kind is None:
            self.kind, self._first = kind, where
            self.groupings = {title: Grouping(self._each, levels) for title, levels in kind.groupings.items()}
            self.numbers = {name: Numbers(unit, scale) for name, (unit, scale) in kind.numbers.items()}
            self.names = {name: Names(unit) for name, unit in kind.names.items()}
        elif kind is not self.kind:
            raise DataError(
                f"{where}: a row of {kind.name} among {self.kind.name} (the first is {self._first}); look at each kind by itself"
            )

    def _take(self, key: Key, specimen: Specimen) -> None:
        self.specimens += 1
        made: list[Card] = []

        def card() -> Card:
            if not made:
                made.append(specimen.card(key.identity[:16]))
            return made[0]

        for title, labels in specimen.labels.items():
            self.groupings[title].add(labels, key, card)
        for name, value in specimen.numbers:
            self.numbers[name].add(value)
        for name, text, score in specimen.names:
            self.names[name].add(text, score)

    def _refuse(self, where: str, row: Row, problem: str) -> list[Specimen]:
        self.unreadable += 1
        self.faults.offer(Key.of(self._seed, where, [where]), lambda: cards.unread(where, row, problem))
        return []


class _Aside:
    """What lies beside the rows of artifacts: what was left out, and what was changed."""

    def __init__(self, each: int, seed: int) -> None:
        self._each, self._seed = each, seed
        self.truecased = Truecased(_CASES * each, seed)

    def see(self, one: Opened, told: Told) -> list[Stratum]:
        """What was left out of an artifact, by reason."""
        assert one.artifact is not None
        folder = one.artifact.path
        settings, unknown = _filter_settings(one)
        if unknown:
            progress.say(unknown)
        dropped = Dropped(self._each, self._seed, settings, likeness.ngrams_of(one.artifact.manifest.config))
        if (folder / DROPPED).exists():
            for where, entry in files.read(folder / DROPPED):
                dropped.see(where, entry)
                told.row()
        if (folder / TRUECASED).exists():
            for where, entry in files.read(folder / TRUECASED):
                self.truecased.see(where, entry)
        return dropped.victims(since=(folder / MANIFEST).stat().st_mtime)
