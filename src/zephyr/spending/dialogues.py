"""What `synthesize` will ask: every call of every dialogue, gone through as the run would go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zephyr.artifacts import Draft
from zephyr.recipe import APIConfig, LocalConfig, Recipe, ReplayConfig
from zephyr.records import prompt_id_of
from zephyr.spending.lines import CHARACTERS_A_TOKEN, ENOUGH, Line, Size, is_done, priced, size_of, tokens_of
from zephyr.stages import From, synthesize
from zephyr.synthesis.aside import Aside
from zephyr.synthesis.grammar import MOST_CHARACTERS, MOST_OF_A_TEXT
from zephyr.synthesis.steps import Ask
from zephyr.synthesis.talk import Talk
from zephyr.synthesis.turns import Role
from zephyr.teachers import Reply, Request, journal, wire
from zephyr.teachers.journal import peek

AT_ONCE = 500  # dialogues that are gone through together: their texts are made up, and take memory


def of_synthesize(recipe: Recipe, run_dir: Path, draft: Draft) -> list[Line]:
    """Every call of every dialogue, with as many turns as are drawn for it.

    It is gone through as the run would go: with the journal's answers where there are some, and else with made-up ones. Dialogues that
    nothing is known of are alike but for the length of their first turn: one of each number of turns is gone through for all.
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
        hearing, aside = work.hearing(stand_in, 1.0), Aside(len(work.places), 1.0, None, lambda left: "")
        alike = _Alike(work, stand_in)
        for start in range(0, len(work.places), AT_ONCE):
            begun = synthesize.begin(replace(work, places=work.places[start : start + AT_ONCE]), hearing, aside)
            known = stand_in.known({t.place.name: next(work.steps(t)) for t in begun})
            synthesize.lead(work, [t for t in begun if t.place.name in known], hearing, aside)
            for talk in begun:
                if talk.place.name not in known:
                    alike.count(talk)
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
            yield ask, Reply(request, text, reason, 0) if reason else Reply(request, self.made_up(ask), "stop", 0)

    def known(self, asks: Mapping[str, Ask]) -> set[str]:
        """Of questions by a name, those that the journal has an answer to."""
        if not self._anything:
            return set()
        keys = {name: self._key(ask.role, ask.request()) for name, ask in asks.items()}
        found = _kept_texts(self._path, list(keys.values()))
        return {name for name, key in keys.items() if key in found}

    def _key(self, role: str, request: Request) -> bytes:
        """Of a request to a server; nothing of others, whose models are not looked at here."""
        teacher = self._teachers[role]
        if not self._anything:
            return request.prompt_id.encode()  # the name of the question: it tells apart what this teacher is asked
        return wire.key_of(role, teacher.model, teacher, request) if isinstance(teacher, APIConfig) else b""

    def made_up(self, ask: Ask) -> str:
        """A reply of the length that this teacher's are taken to have."""
        size = max(16, round(self._length[ask.role] * CHARACTERS_A_TOKEN))
        if not ask.items:
            return f"text {(ask.name + ' ') * (size // len(ask.name) + 1)}"[: min(size, MOST_OF_A_TEXT)].strip()
        longest = min(size // ask.items, MOST_CHARACTERS)
        items = [f"item {i} {(ask.name[:12] + ' ') * (longest // 13)}"[: max(longest, 24)].strip() for i in range(1, ask.items + 1)]
        return json.dumps({"items": items}) if ask.schema else "".join(f"{i}. {item}\n" for i, item in enumerate(items, 1))


class _Alike:
    """Dialogues that the journal knows nothing of, counted without their texts.

    What they are asked differs by the first turn alone, which stands in each request as often as in any other to that teacher; so one
    dialogue of each number of turns is gone through, and the others' sizes are its sizes and the difference between the first turns.
    """

    def __init__(self, work: synthesize.Job, stand_in: _StandIn) -> None:
        self._work, self._stand_in = work, stand_in
        self._sizes: dict[tuple[int, int], tuple[str, list[tuple[Role, Size]]]] = {}  # by turns: a first turn, and what is asked after it
        # how often the conversation is shown: a user's own text may do so more than once
        self._times: dict[Role, int] = {"assistant": 1, "user": work.texts.templates["next_turn"].count("{dialogue}")}

    def count(self, talk: Talk) -> None:
        """Write down what a dialogue asks, under names that no journal has."""
        shape = talk.rounds, talk.least
        if shape not in self._sizes:
            self._sizes[shape] = talk.opening.prompt, self._gone_through(talk)
        first, sizes = self._sizes[shape]
        characters = len(talk.opening.prompt) - len(first)
        most = len(talk.opening.prompt.encode("utf-8")) - len(first.encode("utf-8"))
        name = prompt_id_of(talk.opening.prompt)  # equal first turns lead to equal questions, which are put once
        for i, (role, size) in enumerate(sizes):
            times = self._times[role]
            self._stand_in.asked[role][f"{name} {i}".encode()] = size[0] + times * characters, size[1] + times * most, size[2]

    def _gone_through(self, talk: Talk) -> list[tuple[Role, Size]]:
        steps, sizes = self._work.steps(talk), []
        ask = next(steps)
        with contextlib.suppress(StopIteration):
            while True:
                sizes.append((ask.role, size_of(ask.request())))
                ask = steps.send(ask.read(self._stand_in.made_up(ask), False))
        return sizes


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
