"""What was left out, and why; what the filters would leave out.

An entry is as `curate` writes it to `dropped/dropped.jsonl`: a reason and the row, and what else is known of it: where the hit of a filter
is (`hit`), which item of which benchmark it holds (`match`), which row it is like (`like`), what is wrong with it (`problem`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from zephyr.curation.rows import Aside, Clock, Judge
from zephyr.errors import DataError
from zephyr.files import Unread
from zephyr.inspection import cards, dialogues, kinds, likeness, marks, partners
from zephyr.inspection.cards import Block, Card, Messages, Span
from zephyr.inspection.specimens import Kind
from zephyr.inspection.strata import Key, Lowest, Samples, Stratum
from zephyr.recipe import Curation, DataSource, FilterConfig
from zephyr.records import Row

FILTER = "filter: "
LOOKED_AT = 2_000  # rows that the filters are tried on
REASONS = 200  # that are shown one by one
SAME = "duplicate of an earlier row"  # the only reason whose partner says the same to the letter


class Dropped:
    """The rows that were left out, by reason.

    Args:
        each: how many are kept of a reason.
        seed: decides which.
        settings: of the filters, where an entry does not say what they found.
        ngrams: how many words a run has by which rows were found to be near, by kind.
    """

    def __init__(self, each: int, seed: int, settings: FilterConfig | None = None, ngrams: Mapping[str, int] = likeness.NGRAMS) -> None:
        self._seed, self._settings, self._ngrams = seed, settings or FilterConfig(), ngrams
        self.samples = Samples(each)

    def see(self, where: str, entry: Row | Unread) -> None:
        """A line of `dropped.jsonl`."""
        if isinstance(entry, Unread) or not isinstance(entry.get("reason"), str) or not isinstance(entry.get("row"), Mapping):
            raise DataError(f"{where}: no row that was left out, with its reason; make the artifact again")
        reason, place = entry["reason"], str(entry.get("where", where))
        if not entry["row"]:  # it was there for all that is known, and others were chosen: its texts are where they were
            self.samples.counts[reason] += 1
            return
        key = Key.of(self._seed, place, _texts(entry["row"]))
        self.samples.add(reason, key, lambda: victim(entry, key.identity[:16], self._settings, self._ngrams))

    def victims(self, since: float) -> list[Stratum]:
        """By reason, the most frequent first; rows that are like another beside that, if its text is still where it was then."""
        found = self.samples.strata(REASONS)
        rows = partners.look_up({card.like for stratum in found for card in stratum.cards if card.like}, since)
        return [replace(stratum, cards=tuple(_beside(card, rows) for card in stratum.cards)) for stratum in found]


class Preview:
    """What the default filters would leave out of dialogues, by themselves: tried on a sample of them.

    Args:
        each: how many victims are shown of a reason.
    """

    def __init__(self, each: int) -> None:
        self._each = each
        self._looked_at: Lowest[tuple[str, Card] | None] = Lowest(LOOKED_AT)
        self.rows = 0

    @cached_property
    def _judge(self) -> Judge:
        """The same that curation asks."""
        return Judge(Curation(filters="default"), [DataSource(path="rows")], None, Clock())

    def see(self, key: Key, row: Row | Unread) -> None:
        """A row that may be in the sample."""
        self.rows += 1
        self._looked_at.offer(key, lambda: self._verdict(key, row))

    def _verdict(self, key: Key, row: Row | Unread) -> tuple[str, Card] | None:
        verdict = self._judge.judge(0, "test", self._judge.shape(0, row)[1])
        if not isinstance(verdict, Aside):
            return None
        entry = {"reason": verdict.reason, "where": key.where, "row": verdict.row, "problem": verdict.problem, **verdict.details}
        return verdict.reason, victim(entry, key.identity[:16], FilterConfig())

    @property
    def looked_at(self) -> int:
        """How many rows the filters were tried on; on rows that say the same at once."""
        return sum(self._looked_at.times(key) for key, _ in self._looked_at.items())

    def samples(self) -> Samples:
        """The victims by reason."""
        found = Samples(self._each)
        for key, verdict in self._looked_at.items():
            if verdict:
                card = verdict[1]
                found.add(verdict[0], key, lambda card=card: card, self._looked_at.times(key))  # type: ignore[misc]  # mypy types no default
        return found


def _texts(row: Mapping[str, Any]) -> list[str]:
    """What tells a row from others."""
    try:
        return [part for turn in dialogues.messages_of(dict(row)) for part in turn]
    except DataError:
        return [repr(row)]


# --- a victim as it is shown -------------------------------------------------------------------------------------


def victim(entry: Mapping[str, Any], identity: str, settings: FilterConfig, ngrams: Mapping[str, int] = likeness.NGRAMS) -> Card:
    """A row that was left out, with what shows the reason ahead of all else."""
    where, row, reason = str(entry.get("where", "")), dict(entry["row"]), entry["reason"]
    if (kind := kinds.kind_of(row)) is not dialogues.DIALOGUES:
        return _other(where, row, identity, kind, str(entry.get("problem") or ""))
    try:
        messages = dialogues.messages_of(row)
    except DataError as error:
        return cards.unread(where, row, str(entry.get("problem") or error))
    blocks, note, marked = _reason(entry, reason, messages, settings)
    like = entry["like"] if isinstance(entry.get("like"), Mapping) and reason != SAME else None
    cut = any(block.text.before for block in blocks)
    whole = cards.turns(messages, marked) if cut or len(messages) > len(blocks) else ()
    return Card(
        where=cards.visible(where),
        id=identity,
        blocks=blocks or whole[:2],
        rest=whole if blocks or len(whole) > 2 else (),
        rest_says=cards.told_turns(messages),
        note=note,
        like=str(like.get("where")) if like is not None else "",
        is_like=likeness.recogniser(entry, ngrams) if like is not None else None,
        text=_comparable(messages, reason),
        reason=reason,
    )


def _reason(
    entry: Mapping[str, Any], reason: str, messages: Messages, settings: FilterConfig
) -> tuple[tuple[Block, ...], str, dict[int, list[Span]]]:
    """(what is shown first, a sentence, the marked passages by turn)."""
    match, like = entry.get("match"), entry.get("like")
    if reason.startswith(FILTER):
        hit = _hit(entry.get("hit"), len(messages)) or _found_again(reason.removeprefix(FILTER), messages, settings)
        return _passage(hit, messages) if hit else ((), "The filter finds nothing in it now.", {})
    if isinstance(match, Mapping) and isinstance(match.get("item"), str):
        return _item(match, messages)
    if isinstance(like, Mapping):
        return _like(like, reason, messages)
    return (), cards.line(str(entry.get("problem") or ""), 300), {}


def _hit(value: object, count: int) -> tuple[int, int, int] | None:
    """(turn, start, end) of a passage, if it is one of this dialogue."""
    found = [value.get(name) for name in ("message", "start", "end")] if isinstance(value, Mapping) else []
    numbers = [n for n in found if isinstance(n, int) and n >= 0]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 and numbers[0] < count else None


def _found_again(name: str, messages: Messages, settings: FilterConfig) -> tuple[int, int, int] | None:
    """What a filter finds, where nobody has written it down."""
    from zephyr.text.filters import Settings, build

    known = build(Settings(**settings.model_dump())).get(name)
    hit = known.find(list(messages)) if known else None
    return (hit.message, hit.start, hit.end) if hit else None


def _passage(hit: tuple[int, int, int], messages: Messages) -> tuple[tuple[Block, ...], str, dict[int, list[Span]]]:
    i, start, end = hit
    text = messages[i][1]
    whole = (start, end) == (0, len(text))
    marked = {i: [Span(start, end, "whole" if whole else "hit")]}
    before = (cards.turn(messages, i - 1, head=cards.AROUND),) if i else ()
    note = "The turn as a whole is the reason." if whole else ""
    return (*before, replace(cards.turn(messages, i, marked[i]), stressed=whole)), note, marked


def _item(match: Mapping[str, Any], messages: Messages) -> tuple[tuple[Block, ...], str, dict[int, list[Span]]]:
    """A benchmark's item, and the turn that holds it."""
    item, i = match["item"], match.get("message")
    i = i if isinstance(i, int) and 0 <= i < len(messages) else 0
    text = messages[i][1]
    spans = marks.shared(text, item) if match.get("comparison") == "ngram" else [Span(0, len(text))]
    ours = marks.shared(item, text) if match.get("comparison") == "ngram" else [Span(0, len(item))]
    name = cards.line(str(match.get("benchmark")), 60)
    overlap = match.get("overlap")
    share = f", {overlap:.0%} of its runs of words are here" if isinstance(overlap, float) and match.get("comparison") == "ngram" else ""
    note = f"An item of {name} ({match.get('comparison')}{share})."
    return (Block(f"the item of {name}", cards.shown(item, ours)), cards.turn(messages, i, spans)), note, {i: spans}


def _like(like: Mapping[str, Any], reason: str, messages: Messages) -> tuple[tuple[Block, ...], str, dict[int, list[Span]]]:
    similarity = like.get("similarity")
    if reason == SAME:
        return (), f"It says the same as {cards.line(str(like.get('where')), 200)}.", {}
    alike = f", {similarity:.0%} alike" if isinstance(similarity, float) else ""
    return (), f"Another row is like it{alike}: {cards.line(str(like.get('where')), 200)}.", {}


def _comparable(messages: Messages, reason: str) -> str:
    """What rows are compared by that are left out for this reason: the prompt, or all that is said; as much as is shown."""
    prompt = next((text for role, text in messages if role == "user"), "")
    return (prompt if "prompt" in reason else "\n\n".join(text for _, text in messages))[: cards.MOST]


def _beside(card: Card, rows: Mapping[str, Row]) -> Card:
    """A row beside the one that it is like, if what is found at its place is as like it as was written down."""
    if card.is_like is None:
        return card
    if card.like not in rows or not card.is_like(rows[card.like]):
        return replace(card, note=f"{card.note} Its text is not at hand: the data is gone, large, elsewhere, or has changed.")
    theirs = _comparable(dialogues.messages_of(rows[card.like]), card.reason)
    spans = marks.differing(card.text, theirs)
    sides = tuple(
        Block(title, cards.shown(text, found, head=2 * cards.HEAD))
        for title, text, found in (("this row", card.text, spans[0]), ("the row that it is like", theirs, spans[1]))
    )
    return replace(card, blocks=(), sides=sides, rest=card.rest or card.blocks)


def _other(where: str, row: Row, identity: str, kind: Kind | None, problem: str) -> Card:
    """A row that is no dialogue: a pair, rated answers, or what nobody can read."""
    try:
        found = next(kind.read(where, None, row), None) if kind else None
    except DataError:
        found = None
    if found is None:
        return cards.unread(where, row, problem)
    card = found.card(identity)
    return replace(card, note=cards.line(problem, 300) or card.note)
