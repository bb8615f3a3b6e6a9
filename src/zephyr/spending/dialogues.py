"""What `synthesize` will ask: every call of every dialogue, gone through as the run would go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zephyr.artifacts import Draft
from zephyr.recipe import APIConfig, LocalConfig, Recipe, ReplayConfig
from zephyr.spending.lines import CHARACTERS_A_TOKEN, ENOUGH, Line, Size, is_done, priced, size_of, tokens_of
from zephyr.stages import From, synthesize
from zephyr.synthesis.grammar import MOST_CHARACTERS, MOST_OF_A_TEXT
from zephyr.synthesis.steps import Ask
from zephyr.teachers import Reply, Request, journal, wire
from zephyr.teachers.journal import peek

AT_ONCE = 500  # dialogues that are gone through together: their texts are made up, and take memory


def of_synthesize(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    """Every call of every dialogue, with as many turns as are drawn for it.

    It is gone through as the run would go: with the journal's answers where there are some, and else with made-up ones.
    """
    section = recipe.synthesize
    if section is None or is_done(recipe, "synthesize", run_dir):
        return []
    paid = {role: teacher for role, teacher in section.teachers().items() if isinstance(teacher, APIConfig)}
    if not paid:
        return []
    config, data = synthesize.configure(recipe), synthesize.needs(recipe).data
    work = synthesize.job(config, {name: given for name, given in data.items() if not isinstance(given, From)}, draft)

    def asked(*, most: bool) -> dict[str, dict[bytes, Size]]:
        stand_in = _StandIn(section.teachers(), run_dir, most=most)
        for start in range(0, len(work.places), AT_ONCE):
            part = replace(work, places=work.places[start : start + AT_ONCE])
            synthesize.converse(part, part.hearing(stand_in, 1.0))
        return stand_in.asked

    found, longest = asked(most=False), asked(most=True)
    guess = (
        "calls are those of dialogues that all come to something, with as many turns as are drawn for each; a dialogue that ends before "
        "takes fewer, and a reply that cannot be read is asked for once more, on top"
    )
    lines = []
    for role, teacher in paid.items():
        line = priced("synthesize", role, teacher, found[role], run_dir, guess)
        upmost = priced("synthesize", role, teacher, longest[role], run_dir)
        lines.append(replace(line, prompt_tokens_most=upmost.prompt_tokens_most, usd_most=upmost.usd_most))
    return lines


class _StandIn:
    """Answers in the place of teachers: those of the journal, and made-up ones where it has none."""

    def __init__(self, teachers: Mapping[str, ReplayConfig | LocalConfig | APIConfig], run_dir: Path, *, most: bool) -> None:
        self._teachers, self._path = teachers, run_dir / journal.NAME
        self._length = {role: _reply_tokens(role, teacher, run_dir, most=most) for role, teacher in teachers.items()}
        self.asked: dict[str, dict[bytes, Size]] = {role: {} for role in teachers}
        # of a journal in which nothing was ever sent no question is known, and to hash long conversations takes minutes
        self._anything = peek.totals(self._path).calls > 0

    def __call__(self, asks: Sequence[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """A reply to each, at once."""
        requests = [(ask, ask.request()) for ask in asks]
        keys = {request: self._key(ask.role, request) for ask, request in requests}
        texts = _kept_texts(self._path, [key for key in keys.values() if key])
        for ask, request in requests:
            self.asked[ask.role][keys[request]] = size_of(request)
            text, reason = texts.get(keys[request], ("", ""))
            yield ask, Reply(request, text, reason, 0) if reason else Reply(request, self._made_up(ask), "stop", 0)

    def _key(self, role: str, request: Request) -> bytes:
        """Of a request to a server; nothing of others, whose models are not looked at here."""
        teacher = self._teachers[role]
        if not self._anything:
            return request.prompt_id.encode()  # the name of the question: it tells apart what this teacher is asked
        return wire.key_of(role, teacher.model, teacher, request) if isinstance(teacher, APIConfig) else b""

    def _made_up(self, ask: Ask) -> str:
        size = max(16, round(self._length[ask.role] * CHARACTERS_A_TOKEN))
        if not ask.items:
            return f"text {(ask.name + ' ') * (size // len(ask.name) + 1)}"[: min(size, MOST_OF_A_TEXT)].strip()
        longest = min(size // ask.items, MOST_CHARACTERS)
        items = [f"item {i} {(ask.name[:12] + ' ') * (longest // 13)}"[: max(longest, 24)].strip() for i in range(1, ask.items + 1)]
        return json.dumps({"items": items}) if ask.schema else "".join(f"{i}. {item}\n" for i, item in enumerate(items, 1))


def _kept_texts(path: Path, keys: Sequence[bytes]) -> dict[bytes, tuple[str, str]]:
    """(text, finish reason) of the requests that a journal has an answer to."""
    query = "SELECT coalesce(text, ''), finish_reason FROM requests WHERE key = ? AND state = 'answered'"
    with peek.looking(path) as db:
        rows = ((key, db.execute(query, (key,)).fetchone()) for key in keys) if db else ()
        return {key: row for key, row in rows if row is not None}


def _reply_tokens(role: str, teacher: ReplayConfig | LocalConfig | APIConfig, run_dir: Path, *, most: bool) -> float:
    """Tokens of a teacher's replies: as the journal's had on average, or all that it may say; of a recording, as its answers have."""
    if isinstance(teacher, ReplayConfig):
        return tokens_of(role, teacher, run_dir, most=most)
    seen = peek.lengths(run_dir / journal.NAME, "synthesize", role)
    return seen.mean if seen.answers >= ENOUGH and not most else float(teacher.max_new_tokens)
