"""Many requests to many servers at once: journalled, and paid within a budget. Design: docs/decisions/0006.

A loop of its own, in a thread of its own, asks all servers together; each has its own pace. No request leaves before the
journal says durably that it does, and no answer is handed on before it is durably there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

from zephyr._version import __version__
from zephyr.errors import TeacherError
from zephyr.progress import say
from zephyr.recipe import APIConfig, BudgetConfig
from zephyr.teachers import Reply, Request, wire
from zephyr.teachers.journal import Journal, Kept, Sending
from zephyr.teachers.loop import UNKNOWN, Run
from zephyr.teachers.outbox import Outbox
from zephyr.teachers.server import Job, Server
from zephyr.teachers.writer import Writer

REFUSED_ALL = 3  # requests, and none answered: it is not the requests; fewer may be bad luck
GRACE_S = 10.0  # when interrupted: how long answers that are under way are waited for


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
            return Reply(job.request, kept.text, kept.finish_reason, tokens, prompt_tokens=kept.prompt_tokens, served=kept.served)
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
                run = Run(self._servers, self._journal, self._budget, writer, session, out, stopped, self._reply_kept)
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
                server, job, problem = tired[0]
                parts.append(f"{len(tired)} requests got no answer (the first, to {server.name}, in {job.tries} tries: {problem})")
            also = f"; {unasked} requests were not sent for that" if closed and unasked else ""
            raise TeacherError("; ".join(parts) + also + "; all answers are kept: run the same command again to ask for what is missing")
