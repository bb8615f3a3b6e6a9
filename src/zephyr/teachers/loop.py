"""One event loop's work at the servers of a stage: a task a server, and a task a request under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from zephyr.recipe import BudgetConfig
from zephyr.teachers import Reply, wire
from zephyr.teachers.journal import OVER_BUDGET, SENT, TAKEN, Journal, Kept, Settled, over_budget
from zephyr.teachers.outbox import Outbox
from zephyr.teachers.response import Answer
from zephyr.teachers.server import Job, Server, proxy_for
from zephyr.teachers.writer import Writer

if TYPE_CHECKING:
    import aiohttp

TAKEN_POLL_S = 0.5  # how often one looks whether the answer is there that an equal request or another process has asked for
UNKNOWN = "unknown"  # the finish reason of a request left out because it may have been paid for already


class Run:
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
        """Whether what an equal request or another process had in hand is there by now, or is left to us."""
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
                server.say(f"{server.name}: waiting for answers that are under way already, here or in another process", once="taken")
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
                served=outcome.served,
            )
        else:
            state: Literal["unknown", "failed"] = "unknown" if outcome.kind == "cut" or outcome.worked else "failed"
            settled = Settled(job.sending, state, error=outcome.problem)
        await self._writer.write(settled=[settled])
        del server.sent_at[job]
        if isinstance(outcome, Answer):
            tokens = outcome.prompt_tokens + outcome.completion_tokens
            reply = Reply(
                job.request, outcome.text, outcome.finish_reason, tokens, prompt_tokens=outcome.prompt_tokens, served=outcome.served
            )
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
