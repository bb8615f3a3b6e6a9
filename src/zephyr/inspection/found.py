"""What was seen in data: all that the page shows, and the JSON says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr._version import __version__
from zephyr.inspection.cards import Card
from zephyr.inspection.case import Truecased
from zephyr.inspection.distributions import Names, Numbers
from zephyr.inspection.specimens import Kind
from zephyr.inspection.strata import Grouping, Stratum
from zephyr.inspection.victims import Preview


@dataclass(frozen=True)
class Origin:
    """An artifact that was looked at: what came in, what went out, and how many were left out for which reason."""

    path: str
    stage: str
    rows_in: int
    rows_out: Mapping[str, int]
    dropped: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def adds_up(self) -> bool:
        """What went out and what was left out is what came in; not where a stage also leaves out what it made, or counts in other units."""
        return self.rows_in == sum(self.rows_out.values()) + sum(self.dropped.values())


@dataclass(frozen=True)
class Inspection:
    """What was seen.

    Attributes:
        sources: the names of what was read.
        kind: what the rows are.
        rows: how many rows there are.
        specimens: how many dialogues, answers or pairs are in them.
        each: how many are shown of a stratum.
        seed: decides which.
        unreadable: how many rows could not be read.
        faults: some of those.
        groupings: the strata by title.
        numbers: distributions of numbers by name.
        names: counts of names by name.
        origins: the artifacts among the sources.
        victims: what was left out, by reason.
        preview: what the filters would leave out, where they have not been there.
        truecased: texts whose case was mended.
    """

    sources: tuple[str, ...]
    kind: Kind
    rows: int
    specimens: int
    each: int
    seed: int
    unreadable: int
    faults: tuple[Card, ...]
    groupings: Mapping[str, Grouping]
    numbers: Mapping[str, Numbers]
    names: Mapping[str, Names]
    origins: tuple[Origin, ...]
    victims: tuple[Stratum, ...]
    preview: Preview | None
    truecased: Truecased | None

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were left out for which reason, the most frequent first."""
        found: Counter[str] = Counter()
        for origin in self.origins:
            found.update(origin.dropped)
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def left_out_of(self) -> int | None:
        """How many rows came in, if those that were left out are a share of them; else None."""
        return sum(origin.rows_in for origin in self.origins) if all(origin.adds_up for origin in self.origins) else None

    def json(self) -> dict[str, Any]:
        """One object: kind, counts, distributions, reasons, and which rows are shown."""
        return {
            "zephyr": __version__,
            "sources": list(self.sources),
            "kind": self.kind.name,
            "rows": self.rows,
            self.kind.unit: self.specimens,
            "unreadable": self.unreadable,
            "seed": self.seed,
            "came_in": sum(origin.rows_in for origin in self.origins) if self.origins else None,
            "went_out": sum(sum(origin.rows_out.values()) for origin in self.origins) if self.origins else None,
            "reasons": self.reasons,
            "victims": {stratum.label: _ids(stratum) for stratum in self.victims},
            "would_drop": self._preview(),
            "truecased": self._truecased(),
            "strata": {title: _strata(grouping, self.kind.order.get(title, ())) for title, grouping in self.groupings.items()},
            "distributions": {name: numbers.json() for name, numbers in self.numbers.items() if numbers.count},
            "names": {name: names.json() for name, names in self.names.items() if names.count},
        }

    def _preview(self) -> dict[str, Any] | None:
        if self.preview is None:
            return None
        samples = self.preview.samples()
        reasons = dict(sorted(samples.counts.items(), key=lambda item: (-item[1], item[0])))
        victims = {reason: _ids(Stratum(reason, n, samples.cards(reason))) for reason, n in reasons.items()}
        return {"looked_at": self.preview.looked_at, "of": self.preview.rows, "reasons": reasons, "victims": victims}

    def _truecased(self) -> dict[str, Any] | None:
        if self.truecased is None:
            return None
        found = self.truecased
        counts = {"dialogues": found.dialogues, "words": found.words, "skipped": found.skipped}
        return {**counts, "samples": [_id(card) for card in found.cards()]}


def _strata(grouping: Grouping, order: Sequence[str]) -> dict[str, Any]:
    found = grouping.samples()
    strata = found.strata(len(found.counts), order)
    return {
        "coarse": grouping.coarse,
        "counts": {stratum.label: stratum.count for stratum in strata},
        "samples": {stratum.label: _ids(stratum) for stratum in strata},
    }


def _id(card: Card) -> dict[str, str]:
    return {"id": card.id, "where": card.where}


def _ids(stratum: Stratum) -> list[dict[str, str]]:
    return [_id(card) for card in stratum.cards]
