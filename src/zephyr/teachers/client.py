"""Many requests to many servers at once: journalled, and paid within a budget. Design: docs/decisions/0006.

A loop of its own, in a thread of its own, asks all servers together; each has its own pace. No request leaves before the
journal says durably that it does, and no answer is handed on before it is durably there.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from zephyr._version import __version__
from zephyr.errors import TeacherError
from zephyr.progress import say
from zephyr.recipe import APIConfig, BudgetConfig
from zephyr.teachers import Reply, Request, wire
from zephyr.teachers.journal import OVER_BUDGET, SENT, TAKEN, Journal, Kept, Sending, Settled, over_budget
from zephyr.teachers.server import TRIES, Job, Server, proxy_for
from zephyr.teachers.wire import Answer

if TYPE_CHECKING:
    import aiohttp

COMMIT_EVERY_S = 0.005  # more goes into each transaction, and other processes come to their turn between two
TAKEN_POLL_S = 0.5  # how often one looks whether another process has the answer now
WRITE_AGAIN_S = 0.5
NOT_SENT = "not sent"  # the fate of a request where the journal cannot be written
REFUSED_ALL = 3  # requests, and none answered: it is not the requests; fewer may be bad luck
GRACE_S = 10.0  # when interrupted: how long answers that are under way are waited for
UNKNOWN = "unknown"  # the finish reason of a request left out because it may have been paid for already


class Writer:
    """Group commit: all that is to be written within a few milliseconds goes into one transaction.

    It is done in the loop's own thread, which stands still for it. In a thread beside it every statement would wait for the
    interpreter's lock: measured, that costs more than the waiting for the disk.
    """

    def __init__(self, journal: Journal, on_error: Callable[[], None]) -> None:
        self._journal, self._on_error = journal, on_error
        self._waiting: list[tuple[Sequence[Sending], Sequence[Settled], asyncio.Future[list[str]]]] = []
        self._next = 0.0
        self.error: Exception | None = None  # why the journal could not be written; for that nothing more is sent

    def write(self, sendings: Sequence[Sending] = (), settled: Sequence[Settled] = ()) -> asyncio.Future[list[str]]:
        """Done once it is durable, with the fate of each sending."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[str]] = loop.create_future()
        if not self._waiting:
            loop.call_later(max(0.0, self._next - loop.time()), self.flush)
        self._waiting.append((sendings, settled, done))
        return done

    def flush(self) -> None:
        """Write what waits, now. Where that fails nothing is sent, and what came back is kept to be written later."""
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        sendings = [item for part, _, _ in batch for item in part]
        settled = [item for _, part, _ in batch for item in part]
        loop = asyncio.get_running_loop()
        try:
            fates = iter(self._journal.write(sendings, settled))
        except Exception as error:
            self.error = error
            self._on_error()
            fates = iter([NOT_SENT] * len(sendings))
            self._waiting = [((), part, done) for _, part, done in batch if part]
            batch = [item for item in batch if item[0]]
            if self._waiting:
                loop.call_later(WRITE_AGAIN_S, self.flush)
        else:
            self._next = loop.time() + COMMIT_EVERY_S
        for part, _, done in batch:
            mine = list(itertools.islice(fates, len(part)))
            if not done.done():
                done.set_result(mine)


class Outbox:
    """Replies on their way to the thread that asked for them, as many at once as there are: each handing over costs a switch of threads."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[list[tuple[str, Reply]] | None] = queue.SimpleQueue()
        self._waiting: list[tuple[str, Reply]] = []

    def put(self, name: str, reply: Reply) -> None:
        """From the loop's thread."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((name, reply))

    def flush(self) -> None:
        """Hand over what there is."""
        if self._waiting:
            self._queue.put(self._waiting)
            self._waiting = []

    def end(self) -> None:
        """There will be no more."""
        self.flush()
        self._queue.put(None)

    def __iter__(self) -> Generator[tuple[str, Reply]]:
        while (batch := self._queue.get()) is not None:
            yield from batch


class Client:
    """All servers of a stage, one journal, one budget."""

    def __init__(self, stage: str, teachers: Mapping[str, APIConfig], journal: Journal, budget: BudgetConfig, seed: int) -> None:
        """Reads the keys at once: what is wrong with them is known before anything is sent.

        Raises:
            UsageError: an environment variable is not set.
        """
        self._stage, self._journal, self._budget = stage, journal, budget
        self._servers = {name: Server(name, config, seed) for name, config in teachers.items()}
        self._stopping = threading.Event()
        self._tell: Callable[[], object] = lambda: None
        self._thread: threading.Thread | None = None

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return sum(server.in_flight for server in self._servers.values())

    @property
    def answered(self) -> int:
        """Answers that came since the stage began, not those that were kept."""
        return sum(server.answered for server in self._servers.values())

    def replies(self, requests: Mapping[str, Sequence[Request]]) -> Generator[tuple[str, Reply]]:
        """(teacher, reply) to every request, those that the journal has first.

        Raises:
            BudgetError: the next request might pass the budget. What was under way has been waited for.
            TeacherError: some requests have no answer; the others have been handed on.
        """
        out = Outbox()
        before = sum(server.kept for server in self._servers.values())
        for name, theirs in requests.items():
            yield from self._known(name, theirs)
        if kept := sum(server.kept for server in self._servers.values()) - before:
            say(f"{kept:,} answers are in the journal already")
        if not any(server.waiting for server in self._servers.values()):
            return
        errors: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self._ask_all(out))
            except BaseException as error:
                errors.append(error)
            finally:
                out.end()

        self._thread = threading.Thread(target=work, name="teachers", daemon=True)
        self._thread.start()
        yield from out
        self._thread.join()
        if errors:
            raise errors[0]
        self._complain()

    def close(self) -> None:
        """Where the work was broken off: send nothing more, and wait a little for the answers that are under way."""
        if self._thread is None or not self._thread.is_alive():
            return
        if self.in_flight:
            say(f"waiting up to {GRACE_S:.0f} s for {self.in_flight} answers that are under way")
        self._stopping.set()
        self._tell()
        self._thread.join(GRACE_S + 5)

    def _known(self, name: str, requests: Iterable[Request]) -> Generator[tuple[str, Reply]]:
        """Hand on what the journal has, and line up the rest."""
        server = self._servers[name]
        jobs = [Job(request, self._sending(server, request)) for request in requests]
        kept = self._journal.kept([job.sending.key for job in jobs])
        for job in jobs:
            found = kept.get(job.sending.key)
            if found is not None and (reply := self._reply_kept(server, job, found)):
                server.kept += found.state == "answered"
                yield name, reply
            else:
                server.waiting.append(job)

    def _sending(self, server: Server, request: Request) -> Sending:
        config = server.config
        key = wire.key_of(server.name, config.model, config, request)
        reserve = wire.cost(config, wire.most_tokens(request.messages), wire.limit_of(config, request))
        return Sending(key, self._stage, server.name, config.model, request.prompt_id, reserve)

    def _reply_kept(self, server: Server, job: Job, kept: Kept) -> Reply | None:
        """The reply that the journal has, if it has one; a request cut off is left out where the recipe says so."""
        if kept.state == "answered":
            tokens = kept.prompt_tokens + kept.completion_tokens
            return Reply(job.request, kept.text, kept.finish_reason, tokens, prompt_tokens=kept.prompt_tokens)
        if kept.state == "unknown" and server.config.unknown == "skip":
            return Reply(job.request, "", UNKNOWN, 0, kept.error)
        return None

    async def _ask_all(self, out: Outbox) -> None:
        import aiohttp

        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        self._tell = lambda: loop.call_soon_threadsafe(stopped.set)
        if self._stopping.is_set():  # before there was anybody to tell
            return
        writer = Writer(self._journal, stopped.set)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4)  # shorter than any server's: no request into a closing connection
        # no cookies: a gateway's would tie later requests to earlier ones
        agent = {"User-Agent": f"zephyr/{__version__}"}
        try:
            async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), headers=agent) as session:
                run = _Run(self._servers, self._journal, self._budget, writer, session, out, stopped, self._reply_kept)
                work = asyncio.ensure_future(run.all())
                stop = asyncio.ensure_future(stopped.wait())
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    run.wake()
                    # a journal that cannot be written is no hurry: what is under way is paid for, and written as soon as it can be
                    patient = writer.error is not None and not self._stopping.is_set()
                    longest = max(server.config.limits.timeout_s for server in self._servers.values())
                    await asyncio.wait({work}, timeout=longest if patient else GRACE_S)
                    work.cancel()
                stop.cancel()
                await work
        except asyncio.CancelledError:
            pass  # the journal says of what was still under way that nothing is known
        finally:
            self._tell = lambda: None
            writer.flush()
        if writer.error and any(server.unanswered for server in self._servers.values()):
            raise writer.error

    def _complain(self) -> None:
        closed = [f"{server.name}: {server.closed}" for server in self._servers.values() if server.closed and server.waiting]
        closed += [
            f"{server.name}: it refused all {server.troubles['refused']} requests, so it is not the requests: {server.refused}"
            for server in self._servers.values()
            if server.troubles["refused"] >= REFUSED_ALL and not (server.answered or server.kept) and not (server.closed and server.waiting)
        ]
        tired = [(server, job, problem) for server in self._servers.values() for job, problem in server.given_up]
        unasked = sum(len(server.waiting) for server in self._servers.values())
        for server in self._servers.values():
            server.waiting.clear()
            server.given_up = []
        if closed or tired:
            parts = list(closed)
            if tired:
                server, _, problem = tired[0]
                parts.append(f"{len(tired)} requests got no answer in {TRIES} tries (the first, to {server.name}: {problem})")
            also = f"; {unasked} requests were not sent for that" if closed and unasked else ""
            raise TeacherError("; ".join(parts) + also + "; all answers are kept: run the same command again to ask for what is missing")


class _Run:
    """One event loop's work: a task a server, and a task a request under way."""

    def __init__(
        self,
        servers: Mapping[str, Server],
        journal: Journal,
        budget: BudgetConfig,
        writer: Writer,
        session: aiohttp.ClientSession,
        out: Outbox,
        stopped: asyncio.Event,
        reply_kept: Callable[[Server, Job, Kept], Reply | None],
    ) -> None:
        self._servers, self._journal, self._budget, self._writer, self._session = servers, journal, budget, writer, session
        self._out, self._stopped, self._reply_kept = out, stopped, reply_kept
        self._wakes = {name: asyncio.Event() for name in servers}
        self._over_budget = False
        self._admitted = 0  # requests on their way to the journal, of which it is not known yet whether they are sent

    def wake(self) -> None:
        """Something changed that any server may be waiting for."""
        for event in self._wakes.values():
            event.set()

    @property
    def _in_flight(self) -> int:
        return sum(server.in_flight for server in self._servers.values())

    async def all(self) -> None:
        """Until every server has done all it will do."""
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers.values():
                    group.create_task(self._serve(server, group))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        if self._over_budget:
            raise over_budget(self._budget, self._journal.totals())

    async def _serve(self, server: Server, group: asyncio.TaskGroup) -> None:
        import aiohttp

        wake = self._wakes[server.name]
        proxy = proxy_for(server.url)
        timeout = aiohttp.ClientTimeout(total=server.config.limits.timeout_s, sock_connect=min(30.0, server.config.limits.timeout_s / 2))
        while server.unanswered:
            wake.clear()
            if server.closed or self._stopped.is_set() or self._over_budget:
                server.waiting.extend(job for _, _, job in server.delayed)
                server.waiting.extend(server.taken)
                server.delayed, server.taken = [], []
                if not server.in_flight:
                    return
                await wake.wait()
                continue
            jobs, wait = server.admitted()
            self._admitted += len(jobs)
            fates = await self._writer.write([job.sending for job in jobs]) if jobs else []
            self._admitted -= len(jobs)
            for job, fate in reversed(list(zip(jobs, fates, strict=True))):
                if fate == SENT and self._stopped.is_set():  # while it was written down: it does not leave
                    group.create_task(self._take_back(job))
                elif fate == SENT:
                    server.sent_at[job] = time.monotonic()
                    group.create_task(self._one(server, job, proxy, timeout))
                    continue
                server.not_sent(job)
                if fate == TAKEN:
                    server.taken.append(job)
                else:
                    server.waiting.appendleft(job)
            if OVER_BUDGET in fates and not self._in_flight and not self._admitted:
                self._over_budget = True
                self.wake()
                continue
            if server.taken:
                self._look(server)
                wait = min(wait, TAKEN_POLL_S)
            if server.unanswered and (not jobs or OVER_BUDGET in fates):
                await _either(wake, wait)

    async def _take_back(self, job: Job) -> None:
        await self._writer.write(settled=[Settled(job.sending, "failed", error="the run was interrupted before it was sent")])

    def _look(self, server: Server) -> None:
        """Whether what another process had in hand is there by now, or is left to us."""
        if time.monotonic() - server.looked_at < TAKEN_POLL_S:
            return
        server.looked_at = time.monotonic()
        self._journal.bury()
        kept = self._journal.kept([job.sending.key for job in server.taken])
        still = []
        for job in server.taken:
            found = kept[job.sending.key]
            if reply := self._reply_kept(server, job, found):
                server.kept += found.state == "answered"
                self._out.put(server.name, reply)
            elif found.state == "sent":
                still.append(job)
                server.say(f"{server.name}: waiting for answers that another process has in hand", once="taken")
            else:
                server.waiting.append(job)
        server.taken = still

    async def _one(self, server: Server, job: Job, proxy: str | None, timeout: aiohttp.ClientTimeout) -> None:
        """One request, from its sending to what the journal says of it."""
        outcome, pause_s = await server.ask(job, self._session, proxy, timeout)
        if isinstance(outcome, Answer):
            cost = wire.cost(server.config, outcome.prompt_tokens, outcome.completion_tokens)
            settled = Settled(
                job.sending,
                "answered",
                outcome.text,
                outcome.finish_reason,
                outcome.prompt_tokens,
                outcome.completion_tokens,
                outcome.usage_known,
                cost,
            )
        else:
            state: Literal["unknown", "failed"] = "unknown" if outcome.kind == "cut" or outcome.worked else "failed"
            settled = Settled(job.sending, state, error=outcome.problem)
        await self._writer.write(settled=[settled])
        del server.sent_at[job]
        if isinstance(outcome, Answer):
            tokens = outcome.prompt_tokens + outcome.completion_tokens
            reply = Reply(job.request, outcome.text, outcome.finish_reason, tokens, prompt_tokens=outcome.prompt_tokens)
            self._out.put(server.name, reply)
        elif outcome.kind == "refused":
            self._out.put(server.name, Reply(job.request, "", "refused", 0, outcome.problem))
        elif outcome.kind == "cut" and server.config.unknown == "skip":
            self._out.put(server.name, Reply(job.request, "", UNKNOWN, 0, outcome.problem))
        elif outcome.kind == "closed":
            server.waiting.append(job)
        else:
            server.retry(job, outcome, pause_s)
        if self._over_budget_may_fit:
            self.wake()
        else:
            self._wakes[server.name].set()

    @property
    def _over_budget_may_fit(self) -> bool:
        """With a budget, any server may be waiting for what another one's request gives back."""
        return self._budget.usd is not None or self._budget.calls is not None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that a group of tasks ended by."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
