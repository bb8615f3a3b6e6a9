"""Many small conversations with teachers, led side by side, each written down as if it were alone.

What a dialogue needs is a generator: it yields what is to be asked (`Ask`) and is sent what came back, already read. `together` takes
all of them from question to question, and puts what they ask at one time to the teachers at once. A question that several ask, such as
that for the subtopics of a topic, is put once: what leads to it is the same for all, so they come to it at the same time.
What is asked next depends on what was answered alone, never on which answer came first.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from zephyr.errors import DataError
from zephyr.hashes import canonical
from zephyr.records import Message, prompt_id_of
from zephyr.synthesis.turns import Role, UnfitError
from zephyr.teachers import Reply, Request

FIRST_LOOK = 64  # requests of a kind after which a teacher that cannot be read is stopped, before the rest is paid for
REFUSED = "request that could not be put to the teacher"
LOST = "reply that may have been paid for, and is lost"
WITHHELD = "reply that the teacher withheld"
T = TypeVar("T")
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, eq=False)
class Ask:
    """One question to a teacher.

    Attributes:
        role: which teacher.
        messages: what it is sent.
        read: what is made of a reply, given its text and whether it was cut off; raises `DataError` where it cannot be used.
        again: how it is asked once more after that: `quote` shows it its reply and what is wrong, `sample` draws another.
        kind: what is asked for, in a word; what cannot be read is counted by it.
        items: how many items of a list are asked for; 0: a single text.
        sample: which of several replies to the same messages.
        schema: what the reply must follow, where the server can be held to it.
    """

    role: Role
    messages: tuple[Message, ...]
    read: Callable[[str, bool], Any]
    kind: str
    again: Literal["quote", "sample"] = "quote"
    items: int = 0
    sample: int = 0
    schema: Mapping[str, Any] | None = None

    @functools.cached_property
    def name(self) -> str:
        """Equal for equal questions: sha256 over the messages and the sample, in hex."""
        return prompt_id_of(canonical([list(self.messages), self.sample]))

    def request(self) -> Request:
        """As a teacher takes it: known by its content, so that the random numbers of a local model depend on that alone."""
        return Request("complete", self.name, self.messages, sample=self.sample, schema=self.schema)


class RejectedError(DataError):
    """What was begun ends here: `reason` is one of the few that are counted, `reply` what could not be used."""

    def __init__(self, reason: str, problem: str = "", reply: str = "") -> None:
        super().__init__(problem or reason)
        self.reason, self.problem, self.reply = reason, problem, reply


Key = tuple[Role, str]  # of a question: who is asked, and its name
Steps = Generator[Ask, Any, T]


class Answers(Protocol):
    """Who is asked: teachers, or in a plan what stands for them."""

    def __call__(self, asks: Sequence[Ask]) -> Iterable[tuple[Ask, Reply]]:
        """A reply to every question, in whatever order."""


@dataclass
class Hearing:
    """Puts questions, reads the replies, and asks once more for what cannot be read.

    Attributes:
        answers: who is asked.
        again: what is said of a reply that cannot be used, `{error}` filled in by the caller.
        limit: the share of replies that may be unreadable, at the first look.
        asked: questions put, by kind; those put once more are not in it.
        asked_twice: of them, replies that could not be used the first time.
        tokens: sent and received.
        heard: called for every question that is done.
    """

    answers: Answers
    again: Callable[[str], str]
    limit: float = 1.0
    asked: Counter[str] = field(default_factory=Counter)
    asked_twice: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    heard: Callable[[int], None] = lambda left: None
    _looked: set[str] = field(default_factory=set)

    def hear(self, asks: Sequence[Ask]) -> dict[Key, Any]:
        """What was read of each, or why not (a `RejectedError`), by role and name.

        Raises:
            DataError: too many of the first replies of a kind cannot be used.
        """
        distinct = {(ask.role, ask.name): ask for ask in asks}
        self.asked.update(ask.kind for ask in distinct.values())
        found: dict[Key, Any] = {}
        first, rest = self._first_look(distinct)
        for part in (first, rest):
            if part:
                left = len(distinct) - len(found)
                found.update(self._hear(part, left))
            if part is first:
                self._refuse_unread(first, found)
        return found

    def _first_look(self, asks: Mapping[Key, Ask]) -> tuple[dict[Key, Ask], dict[Key, Ask]]:
        """The first few of each kind that was not looked at yet, and the others."""
        first: dict[Key, Ask] = {}
        seen: Counter[str] = Counter()
        for key, ask in asks.items():
            if ask.kind not in self._looked and seen[ask.kind] < FIRST_LOOK:
                seen[ask.kind] += 1
                first[key] = ask
        self._looked |= {kind for kind, count in seen.items() if count == FIRST_LOOK}
        return first, {key: ask for key, ask in asks.items() if key not in first}

    def _refuse_unread(self, first: Mapping[Key, Ask], found: Mapping[Key, Any]) -> None:
        for kind in sorted({ask.kind for ask in first.values()}):
            results = [found[key] for key, ask in first.items() if ask.kind == kind]
            bad = [result for result in results if isinstance(result, RejectedError)]
            chance = 3 * (len(results) * self.limit * (1 - self.limit)) ** 0.5
            if len(results) == FIRST_LOOK and len(bad) > self.limit * len(results) + chance:
                raise DataError(
                    f"{len(bad)} of the first {len(results)} replies ({kind}) could not be used (the first: {bad[0]}; twice, it begins "
                    f"{bad[0].reply[:60]!r}), more than synthesize.max_rejected ({self.limit:.0%}) allows; use a stronger teacher, mend "
                    "the prompts, or raise the limit"
                )

    def _hear(self, asks: Mapping[Key, Ask], left: int) -> dict[Key, Any]:
        found: dict[Key, Any] = {}
        second: dict[Ask, tuple[Key, RejectedError]] = {}
        for ask, reply in self.answers(list(asks.values())):
            self.tokens += reply.tokens
            key = ask.role, ask.name
            result = _read(ask, reply)
            if isinstance(result, RejectedError) and result.reason not in (REFUSED, LOST, WITHHELD):
                second[self._once_more(ask, result)] = key, result
            else:
                found[key] = result
                self.heard(left := left - 1)
        self.asked_twice.update(ask.kind for ask in second)
        for ask, reply in self.answers(list(second)) if second else ():
            self.tokens += reply.tokens
            key, before = second[ask]
            result = _read(ask, reply)
            # what it said the first time cannot be quoted to it: then that is what counts
            found[key] = before if isinstance(result, RejectedError) and result.reason == REFUSED else result
            self.heard(left := left - 1)
        if missing := len(asks) - len(found):
            raise DataError(f"the teachers left {missing} of {len(asks)} requests without a reply")
        return found

    def _once_more(self, ask: Ask, problem: RejectedError) -> Ask:
        if ask.again == "sample":
            return replace(ask, sample=ask.sample + 1)
        reply = problem.reply if len(problem.reply) <= 4000 else problem.reply[:4000] + " […]"
        retry: tuple[Message, ...] = (
            *ask.messages,
            {"role": "assistant", "content": reply if reply.strip() else "(nothing)"},
            {"role": "user", "content": self.again(str(problem)[:300])},
        )
        return replace(ask, messages=retry)


def _read(ask: Ask, reply: Reply) -> Any:
    """What a reply says, or why it cannot be used."""
    if reply.is_refused:
        return RejectedError(REFUSED, reply.problem)
    if reply.is_lost:
        return RejectedError(LOST, reply.problem)
    if reply.finish_reason in ("content_filter", "refusal"):
        return RejectedError(WITHHELD, f"it ended with {reply.finish_reason!r}", reply.text)
    try:
        return ask.read(reply.text, reply.finish_reason == "length")
    except UnfitError as error:
        return RejectedError(error.reason, str(error), reply.text)
    except DataError as error:
        return RejectedError(f"{ask.kind} that cannot be read", str(error), reply.text)


def together(steps: Mapping[Name, Steps[T]], hearing: Hearing, *, each_time: Callable[[Mapping[Name, T | RejectedError]], None]) -> dict[
    Name, T | RejectedError
]:  # fmt: skip
    """Lead all to their end: what each returns, or the rejection that it came to.

    Args:
        steps: each by its name.
        hearing: puts their questions.
        each_time: called with what is done so far, before anything more is asked; it may raise.
    """
    done: dict[Name, T | RejectedError] = {}
    waiting: dict[Name, Ask] = {}

    def go_on(name: Name, value: Any) -> None:
        """On to the next question."""
        try:
            waiting[name] = steps[name].throw(value) if isinstance(value, RejectedError) else steps[name].send(value)
        except StopIteration as end:
            done[name] = end.value
        except RejectedError as error:
            done[name] = error.with_traceback(None)

    for name in steps:
        go_on(name, None)
    while waiting:
        each_time(done)
        asks, waiting = waiting, {}
        heard = hearing.hear(list(asks.values()))
        for name, ask in asks.items():
            go_on(name, heard[ask.role, ask.name])
    each_time(done)
    return done
