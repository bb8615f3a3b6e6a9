"""Prompts of benchmarks among those of the data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from zephyr.audit.checks import Found, Item
from zephyr.audit.findings import Finding, Table, unknown
from zephyr.text.contamination import KINDS, Benchmarks


class Contamination:
    """Prompts that are prompts of a benchmark."""

    def __init__(self, benchmarks: Benchmarks | None) -> None:
        self._benchmarks = benchmarks
        self._kinds: dict[str, Counter[str]] = defaultdict(Counter)
        self._rows, self._found = 0, Found()

    def see(self, item: Item) -> None:
        """Compare what the user says."""
        self._rows += 1
        if self._benchmarks is None:
            return
        hits = [hit for text in item.asked for hit in self._benchmarks.find_all(text)]
        for name in {hit.benchmark for hit in hits}:
            self._kinds[name][min((hit.kind for hit in hits if hit.benchmark == name), key=KINDS.index)] += 1
        if hits:
            best = min(hits, key=lambda hit: KINDS.index(hit.kind))
            self._found.add(item, f"{best.benchmark}, {best.kind}" + (f" ({best.overlap:.0%})" if best.kind == "ngram" else ""))

    def findings(self) -> list[Finding]:
        """One."""
        name, unit = "in_benchmarks", "rows"
        if self._benchmarks is None:
            return [unknown(name, unit, "Not looked for: no benchmark was named; give `--against FILE`.")]
        table = _table(self._benchmarks.counts, self._kinds)
        says = "What the user says is a prompt of a benchmark: a model that learns from it is not measured by that benchmark any more."
        advice = "Leave these rows out before training, or do not report the benchmark."
        return [self._found.finding(name, self._rows, unit, says, advice, table)]


def _table(sizes: Mapping[str, int], kinds: Mapping[str, Counter[str]]) -> Table:
    rows = [(name, f"{size:,}", *(f"{kinds[name][kind]:,}" if name in kinds else "0" for kind in KINDS)) for name, size in sizes.items()]
    return Table(("benchmark", "its prompts", *KINDS), tuple(rows))
