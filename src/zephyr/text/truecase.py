"""Capital letters where they belong, in text that was written without: a small statistical model, trained on text the user has.

The curation of the paper mended capitals with heuristics in about 5% of the dialogues (section 4.1). Here a word gets the form it has most
often in the training text within sentences, its neighbours deciding where that is clearer ("may" after "in", "new" before "york"). Whether
the first word of a sentence, of a paragraph, of an item of a list has a capital is counted too. "I" is always one. Only words in small
letters are ever changed, and nothing in code, addresses, identifiers and numbers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zephyr.errors import DataError
from zephyr.records import Message
from zephyr.text.cased_words import Word, needs_case, words_of

KIND, VERSION = "zephyr-truecaser", 1
LEAST = 2  # times that a form must be seen
SHARE = 0.5  # of a word's times, above which it is how the word is written
PAIR_LEAST, PAIR_SHARE = 3, 0.75  # the same of a word after another, where that says something else
START_SHARE = 0.5  # of first words that have a capital, above which first words of this kind get one
_ALWAYS = {"i": "I", "i'm": "I'm", "i've": "I've", "i'll": "I'll", "i'd": "I'd"}
# "for i in …", "index i": a variable
_BEFORE_A_VARIABLE = frozenset(("for", "index", "variable", "let", "var", "int", "parameter", "element"))


@dataclass(frozen=True)
class Truecaser:
    """How words are written.

    Attributes:
        forms: by word in small letters, how it is written within a sentence, where that is not in small letters.
        after: by the word on the left, a space and the word, how it is written there, where that differs.
        before: the same by the word, a space and the word on the right.
        starts: the kinds of places whose first word has a capital (`zephyr.text.cased_words.STARTS`).
        abbreviations: words whose full stop ends no sentence.
        trained_words: how many words it has seen.
    """

    forms: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    starts: frozenset[str] = frozenset({"text", "sentence", "paragraph"})
    abbreviations: frozenset[str] = frozenset()
    trained_words: int = 0

    @staticmethod
    def train(texts: Iterable[str]) -> Truecaser:
        """Count how words are written. Texts that have no capitals themselves are left out; the order of texts makes no difference.

        Raises:
            DataError: there is no text to learn from.
        """
        counts = _Counts()
        for text in texts:
            if not needs_case(text):
                counts.add(text)
        return counts.model()

    def save(self, path: Path) -> None:
        """Write the model as JSON; equal models give equal bytes."""
        value = {
            "kind": KIND,
            "version": VERSION,
            "trained_words": self.trained_words,
            "starts": sorted(self.starts),
            "abbreviations": sorted(self.abbreviations),
            "forms": dict(sorted(self.forms.items())),
            "after": dict(sorted(self.after.items())),
            "before": dict(sorted(self.before.items())),
        }
        path.write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Truecaser:
        """Read a model that `save` has written.

        Raises:
            DataError: it is none, of another version, or damaged.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); train a truecaser first") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not a truecaser, not even JSON ({error})") from None
        if not isinstance(value, dict) or value.get("kind") != KIND:
            raise DataError(f"{path}: not a truecaser; one was expected that `Truecaser.save` wrote")
        if value.get("version") != VERSION:
            raise DataError(f"{path}: a truecaser of version {value.get('version')!r}, this is version {VERSION}; train it again")
        return _checked(value, path)

    def needs(self, messages: Sequence[Message]) -> bool:
        """Whether a dialogue has a turn whose sentences begin in small letters."""
        return any(needs_case(m["content"]) for m in messages)

    def apply(self, text: str) -> str:
        """The text with capitals where they belong; its length stays what it is."""
        return self._applied(text)[0]

    def dialogue(self, messages: Sequence[Message]) -> tuple[tuple[Message, ...], int]:
        """The turns, those that need it with capitals; and how many words were changed."""
        done: list[Message] = []
        changed = 0
        for message in messages:
            text = message["content"]
            if needs_case(text):
                text, times = self._applied(text)
                changed += times
            done.append({"role": message["role"], "content": text})
        return tuple(done), changed

    def _applied(self, text: str) -> tuple[str, int]:
        pieces: list[str] = []
        at = changed = 0
        left = ""
        for word, right in _with_next(words_of(text, self.abbreviations)):
            form = self._form(word, left, right)
            left = word.low
            if form != word.text:
                pieces += (text[at : word.start], form)
                at = word.start + len(form)
                changed += 1
        return "".join([*pieces, text[at:]]), changed

    def _form(self, word: Word, left: str, right: str) -> str:
        """How a word is written where it stands. One that has a capital already stays."""
        if word.text != word.low or word.fixed:
            return word.text
        always = _ALWAYS.get(word.low.replace("\u2019", "'"))
        if always is not None and not (word.low == "i" and left in _BEFORE_A_VARIABLE):
            return always[0] + word.text[1:]
        low, suffix = _stem(word.low)
        form = self.after.get(f"{left} {low}") or self.before.get(f"{low} {right}") or self.forms.get(low, low)
        if word.kind in self.starts and form == low:
            form = form[0].upper() + form[1:]
        form += word.text[len(word.text) - len(suffix) :] if suffix else ""
        # a few letters have a capital that is another letter's too, or is two
        return form if len(form) == len(word.text) and form.lower() == word.low else word.text


def _with_next(words: Iterable[Word]) -> Iterator[tuple[Word, str]]:
    """Each word and, in small letters, the one on its right; empty where a sentence begins there."""
    last: Word | None = None
    for word in words:
        if last is not None:
            yield last, "" if word.kind else _stem(word.low)[0]
        last = word
    if last is not None:
        yield last, ""


def _stem(low: str) -> tuple[str, str]:
    """A word without the ending of its possessive, and that."""
    return (low[:-2], low[-2:]) if low.endswith(("'s", "\u2019s")) else (low, "")


def _checked(value: Mapping[str, Any], path: Path) -> Truecaser:
    tables = [_table(value.get(key)) for key in ("forms", "after", "before")]
    lists = [_list(value.get(key)) for key in ("starts", "abbreviations")]
    trained = value.get("trained_words")
    if None in tables or None in lists or not isinstance(trained, int):
        raise DataError(f"{path}: a damaged truecaser; train it again")
    forms, after, before = (table or {} for table in tables)
    starts, abbreviations = (frozenset(listed or ()) for listed in lists)
    words = [*forms.items()]
    words += [(pair.rpartition(" ")[2], form) for pair, form in after.items()]
    words += [(pair.partition(" ")[0], form) for pair, form in before.items()]
    for word, form in words:
        if form.lower() != word:
            raise DataError(f"{path}: a truecaser that writes {word!r} as another word; train it again")
    return Truecaser(forms, after, before, starts, abbreviations, trained)


def _table(value: object) -> dict[str, str] | None:
    return value if isinstance(value, dict) and all(isinstance(form, str) for form in value.values()) else None


def _list(value: object) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


class _Counts:
    """How often each word was seen in which form, within sentences and at their beginnings."""

    def __init__(self) -> None:
        self.forms: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.after: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.before: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.starts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.stops: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.words = 0

    def add(self, text: str) -> None:
        left, stopped = "", ""
        for word, right in _with_next(words_of(text)):
            if word.fixed or word.shouted:
                left = stopped = ""
                continue
            self.words += 1
            if word.kind:
                self._first(word, stopped)
            else:
                low, _ = _stem(word.low)
                self._inner(low, word.text[: len(low)], left, right)
            left = word.low
            stopped = word.low if word.stop else ""

    def _first(self, word: Word, stopped: str) -> None:
        capital = word.text[0].isupper()
        if stopped and word.kind == "sentence":
            self.stops[stopped][0] += not capital
            self.stops[stopped][1] += 1
        if len(word.low) > 1:
            self.starts[word.kind][0] += capital
            self.starts[word.kind][1] += 1

    def _inner(self, low: str, form: str, left: str, right: str) -> None:
        self.forms[low][form] += 1
        if left:
            self.after[f"{left} {low}"][form] += 1
        if right:
            self.before[f"{low} {right}"][form] += 1

    def model(self) -> Truecaser:
        if not self.words:
            raise DataError("truecasing: no text with capitals to learn from")
        usual = {word: form for word, seen in self.forms.items() if (form := _best(seen, LEAST, SHARE)) is not None}
        forms = {word: form for word, form in usual.items() if form != word}
        after = _where_it_differs(self.after, forms, lambda pair: pair.rpartition(" ")[2])
        before = _where_it_differs(self.before, forms, lambda pair: pair.partition(" ")[0])
        starts = frozenset(kind for kind, (capital, all_) in self.starts.items() if capital > START_SHARE * all_)
        short = frozenset(word for word, (small, all_) in self.stops.items() if all_ >= LEAST and 2 * small > all_)
        return Truecaser(forms, after, before, starts, short, self.words)


def _where_it_differs(pairs: Mapping[str, Counter[str]], forms: Mapping[str, str], word_of: Callable[[str], str]) -> dict[str, str]:
    """The pairs in which a word is clearly written otherwise than it is as a rule."""
    found = {}
    for pair, seen in pairs.items():
        form = _best(seen, PAIR_LEAST, PAIR_SHARE)
        word = word_of(pair)
        if form is not None and form != forms.get(word, word):
            found[pair] = form
    return found


def _best(seen: Counter[str], least: int, share: float) -> str | None:
    """The form that a word has most often, if it is clear enough; of two as frequent, the one with fewer capitals."""
    form, times = min(seen.items(), key=lambda item: (-item[1], sum(map(str.isupper, item[0])), item[0]))
    return form if times >= least and times > share * seen.total() else None
