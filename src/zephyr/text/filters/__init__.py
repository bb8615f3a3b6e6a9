"""Filters: reasons to leave a dialogue out before anything is learnt from it.

Each has a name, is a pure function of the turns, and can be switched on or off; `docs/filters.md` says what each finds, what it does not
find, and how often it is right. The curation of the paper removed answers that disclaim ("I don't have personal experiences") even where
the question was simple (section 4.1); the other filters find what else is wrong with dialogues that were collected or made.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from zephyr.errors import UsageError
from zephyr.text.filters import endings, leftovers, loops, refusals, shape, voice
from zephyr.text.filters.base import Filter, Hit, Settings, Turn, View
from zephyr.text.filters.language import LANGUAGES, language

__all__ = ["FILTERS", "LANGUAGES", "Filter", "Hit", "Settings", "all_hits", "build", "examine", "is_on"]


def build(settings: Settings | None = None) -> dict[str, Filter]:
    """The filters by name, under these settings, in the order in which they are asked: the quick and certain first.

    Raises:
        UsageError: a setting that cannot be.
    """
    use = settings or Settings()
    return {
        f.name: f
        for f in (
            Filter(
                "alternation", "The turns are not user and assistant in turn, from the user's to the assistant's.", True, shape.alternation
            ),
            Filter("empty-turns", "A turn says nothing: it has no word, number or sign.", True, shape.empty_turns),
            Filter("length", "The answers say too little, or the dialogue is longer than the bounds.", True, shape.length(use)),
            Filter(
                "encoding", "Characters are broken: replacement or control characters, UTF-8 read as something else.", True, shape.encoding
            ),
            Filter("template-tokens", "A marker of a chat format stands in the text.", True, leftovers.template_tokens),
            Filter(
                "role-labels", "An answer begins with its speaker's name, or goes on with the user's turn.", True, leftovers.role_labels
            ),
            Filter("interface", "Words of a chat service's page were copied with the text.", True, leftovers.interface),
            Filter("language", "An answer is in another language than the wanted one, and none was asked for.", True, language(use)),
            Filter("looping", "An answer repeats one passage over and over, or an earlier answer word for word.", True, loops.looping),
            Filter("truncated", "An answer stops in the midst of a sentence or of a block of code.", True, endings.truncated),
            Filter("disclaimer", "The assistant denies feelings, opinions or experiences where nobody asked.", True, voice.disclaimer),
            Filter("as-an-ai", "The assistant calls itself a program where nobody asked what it is.", True, voice.as_an_ai),
            Filter("refusal", "The assistant declines a harmless request that it could answer.", True, refusals.refusal),
            Filter(
                "no-access", "The assistant says that it cannot browse, see, run, send or remember something.", False, refusals.no_access
            ),
            Filter(
                "knowledge-cutoff",
                "The assistant speaks of its training data or of where its knowledge ends.",
                False,
                refusals.knowledge_cutoff,
            ),
        )
    }


FILTERS = build()


def is_on(chosen: Mapping[str, bool] | None = None, filters: Mapping[str, Filter] = FILTERS) -> list[str]:
    """The names of the filters that are on: by default, but for those that `chosen` switches.

    Raises:
        UsageError: a name that no filter has.
    """
    switched = chosen or {}
    _known(switched, filters)
    return [name for name, f in filters.items() if switched.get(name, f.on)]


def examine(messages: Sequence[Turn], names: Iterable[str], filters: Mapping[str, Filter] = FILTERS) -> Hit | None:
    """The first hit in a dialogue, in the order of the filters, not of the names."""
    view, wanted = View.of(messages), _known(names, filters)
    for name, f in filters.items():
        if name in wanted and (hit := f.find(view)) is not None:
            return hit
    return None


def all_hits(messages: Sequence[Turn], names: Iterable[str], filters: Mapping[str, Filter] = FILTERS) -> list[Hit]:
    """What each filter finds first in a dialogue, in the order of the filters."""
    view, wanted = View.of(messages), _known(names, filters)
    found = (f.find(view) for name, f in filters.items() if name in wanted)
    return [hit for hit in found if hit is not None]


def _known(names: Iterable[str], filters: Mapping[str, Filter]) -> frozenset[str]:
    wanted = frozenset(names)
    for name in sorted(wanted - filters.keys()):
        close = difflib.get_close_matches(name, filters, 1)
        raise UsageError(
            f"filters.{name}: no such filter; " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(filters)}")
        )
    return wanted
