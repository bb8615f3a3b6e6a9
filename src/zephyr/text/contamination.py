"""Whether a text is a prompt of a benchmark: a model that was trained on one is not measured by it any more.

Three comparisons, from the strictest to the loosest:

- `exact`: the same text, but for spaces around it;
- `normalised`: the same words in the same order; capitals, punctuation, spaces and compatible characters make no difference;
- `ngram`: of the runs of `n` words that a benchmark's text has, at least the share `overlap` is in the text. A benchmark's text of fewer
  than `n` words is compared as a whole only.

Runs of 13 words: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C. There one run is enough; here it is a share of the
benchmark's text, so that a phrase that many tasks begin with is no match.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zephyr import sources
from zephyr.errors import DataError, UsageError
from zephyr.recipe import DataSource

Kind = Literal["exact", "normalised", "ngram"]
KINDS: tuple[Kind, ...] = ("exact", "normalised", "ngram")
NGRAM = 13
OVERLAP = 0.5

# where a benchmark has its prompts, in the order in which the columns are looked for
_COLUMNS = ("prompt", "turns", "instruction", "question", "ctx", "messages")
# a word; where no spaces stand between words (Chinese, Japanese), a character is one
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


@dataclass(frozen=True)
class Hit:
    """What a text was found to be: of which benchmark, by which comparison, which text, and how much of that is in it (0 to 1)."""

    benchmark: str
    kind: Kind
    text: str
    overlap: float = 1.0


def words(text: str) -> list[str]:
    """The words of a text, compatible characters made one, without capitals and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def normalised(text: str) -> str:
    """A text as it is compared: its words with one space between; one without words, but for its spaces and capitals as it is."""
    return " ".join(words(text)) or " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prompts_of(row: Mapping[str, Any]) -> list[str]:
    """The prompts in a row of a benchmark: `prompt`, each of `turns`, `instruction`, `question`, `ctx`, or the user's turns of `messages`.

    Raises:
        DataError: it has none of them, or one that is neither a text nor a list of turns.
    """
    for column in _COLUMNS:
        if row.get(column) is not None:
            texts = _texts(row[column])
            if texts is None:
                raise DataError(f"`{column}` is neither a text nor a list of turns")
            return [text for text in texts if text.strip()]
    raise DataError(f"no prompt; looked for {', '.join(_COLUMNS)}, the row has {', '.join(map(repr, row))}")


def _texts(value: object) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        return None
    texts: list[str] = []
    for turn in value:
        if isinstance(turn, str):
            texts.append(turn)
        elif isinstance(turn, Mapping) and isinstance(turn.get("content"), str):
            texts += [turn["content"]] if turn.get("role") == "user" else []
        else:
            return None
    return texts


class Benchmarks:
    """The prompts of benchmarks, and which of them a text is.

    Args:
        texts: by benchmark, in the order in which they are named; one text counts once in a benchmark.
        n: words in a run.
        overlap: the share of a benchmark text's runs, above 0 and up to 1, that makes a match.

    Runs are kept as hashes, 64 bits each; what they find is compared word by word before it is said.
    """

    def __init__(self, texts: Mapping[str, list[str]], *, n: int = NGRAM, overlap: float = OVERLAP) -> None:
        if n < 1 or not 0 < overlap <= 1:
            raise UsageError(f"runs of {n} words and an overlap of {overlap}: n must be at least 1, the overlap above 0 and at most 1")
        self.n, self.overlap = n, overlap
        self.counts: dict[str, int] = {}
        self._texts: list[tuple[str, str]] = []
        self._whole: dict[str, list[int]] = {}
        self._runs: dict[int, int | list[int]] = {}  # most are in one text: an int takes less than a list
        self._sizes: list[int] = []  # of each text, how many different runs it has
        for name, prompts in texts.items():
            unique = list(dict.fromkeys(prompts))
            self.counts[name] = len(unique)
            for text in unique:
                self._add(name, text)

    @staticmethod
    def read(given: Mapping[str, DataSource], *, n: int = NGRAM, overlap: float = OVERLAP) -> Benchmarks:
        """Read benchmarks, all splits of each that names none.

        Raises:
            DataError: a row without a prompt, or a benchmark without rows.
        """
        texts: dict[str, list[str]] = {}
        for name, source in given.items():
            found = texts.setdefault(name, [])
            for where, _, row in sources.rows(source, whole=source.source_split is None):
                try:
                    found += prompts_of(row)
                except DataError as error:
                    raise DataError(f"{where}: {error}; name the column: {{path: {source.path}, columns: {{prompt: THEIRS}}}}") from None
            if not found:
                raise DataError(f"{source.path}: no prompts to compare with, in the benchmark {name}")
        return Benchmarks(texts, n=n, overlap=overlap)

    @property
    def items(self) -> list[str]:
        """All texts, in the order of the benchmarks."""
        return [text for _, text in self._texts]

    def find(self, text: str) -> Hit | None:
        """The best match of a text, by the strictest comparison, then the benchmark that was named first; None where there is none."""
        hits = self.find_all(text)
        return min(hits, key=lambda hit: KINDS.index(hit.kind)) if hits else None

    def find_all(self, text: str) -> list[Hit]:
        """The best match of a text in each benchmark that has one, in the order of the benchmarks."""
        found: dict[str, Hit] = {}
        for hit in self._hits(text):
            old = found.get(hit.benchmark)
            if old is None or (KINDS.index(hit.kind), -hit.overlap) < (KINDS.index(old.kind), -old.overlap):
                found[hit.benchmark] = hit
        return [found[name] for name in self.counts if name in found]

    def _add(self, name: str, text: str) -> None:
        index = len(self._texts)
        self._texts.append((name, text))
        self._whole.setdefault(normalised(text), []).append(index)
        runs = set(map(hash, self._runs_of(words(text))))
        self._sizes.append(len(runs))
        for run in runs:
            held = self._runs.setdefault(run, index)
            if isinstance(held, list):
                held.append(index)
            elif held != index:
                self._runs[run] = [held, index]

    def _runs_of(self, found: list[str]) -> Iterator[tuple[str, ...]]:
        return (tuple(found[i : i + self.n]) for i in range(len(found) - self.n + 1))

    def _hits(self, text: str) -> Iterator[Hit]:
        found = words(text)
        whole = self._whole.get(" ".join(found) or normalised(text), [])
        for index in whole:
            name, theirs = self._texts[index]
            yield Hit(name, "exact" if theirs.strip() == text.strip() else "normalised", theirs)
        shared: Counter[int] = Counter()
        for run in set(map(hash, self._runs_of(found))):
            held = self._runs.get(run)
            if held is not None:
                shared.update((held,) if isinstance(held, int) else held)
        for index, count in shared.items():
            if index not in whole and count >= self.overlap * self._sizes[index]:
                name, theirs = self._texts[index]
                overlap = self._overlap(theirs, found)
                if overlap >= self.overlap:
                    yield Hit(name, "ngram", theirs, overlap)

    def _overlap(self, theirs: str, found: list[str]) -> float:
        """The share of a benchmark text's runs that are among the words, without hashes."""
        runs = set(self._runs_of(words(theirs)))
        return len(runs & set(self._runs_of(found))) / len(runs)
