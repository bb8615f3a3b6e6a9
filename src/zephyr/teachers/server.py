"""One teacher behind its server: what waits for it, how fast it may be asked, and what a sending comes to."""

from __future__ import annotations

import heapq
import itertools
import re
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zephyr.progress import say
from zephyr.recipe import APIConfig
from zephyr.records import seeded_unit
from zephyr.teachers import Request, wire
from zephyr.teachers.journal import Sending
from zephyr.teachers.pacing import Breaker, Bucket, Window, backoff_s, pause_asked
from zephyr.teachers.response import BODY_LIMIT, ERROR_CHARACTERS, NAME_CHARACTERS, Answer, Trouble, read

if TYPE_CHECKING:
    import aiohttp

TRIES = 16  # sendings of one request that end without an answer for no fault of its own; patience asked for does not count
CUT_TRIES = 6  # of them, those that may have been paid for
REFUSED_AT_FIRST = 20  # requests refused, and none answered: it is not the requests
LONGEST_WAIT_S = 60.0


@dataclass(eq=False)
class Job:
    """A request on its way."""

    request: Request
    sending: Sending
    tries: int = 0
    cut: int = 0  # those of them that may have been paid for
    patience: int = 0  # how often the server asked for it


class Server:
    """One teacher behind its server: what waits for it, what is under way, and how fast it may be asked."""

    def __init__(self, name: str, config: APIConfig, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.config, self._seed, self._clock = name, config, seed, clock
        self.secret = wire.secret_of(name, config)
        self.url = f"{config.base_url}/chat/completions"
        limits = config.limits
        self.window = Window(limits.max_in_flight)
        self.requests = Bucket(limits.requests_per_minute) if limits.requests_per_minute else None
        self.tokens = Bucket(limits.tokens_per_minute) if limits.tokens_per_minute else None
        self.breaker = Breaker(limits.patience_s)
        self.paused_until = 0.0
        self.waiting: deque[Job] = deque()
        self.delayed: list[tuple[float, int, Job]] = []
        self.taken: list[Job] = []
        self.looked_at = 0.0
        self.sent_at: dict[Job, float] = {}  # of the requests under way
        self.answered = 0
        self.kept = 0  # answers that the journal had
        self.refused = ""  # the last reason why a request was
        self.turned_away = 0  # in a row, by what may be about one request or about all
        self.closed = ""  # why it is asked nothing more
        self.given_up: list[tuple[Job, str]] = []
        self.troubles: Counter[str] = Counter()
        self._said: set[str] = set()
        self._order = itertools.count()

    # --- what to send ---

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self.sent_at)

    @property
    def unanswered(self) -> int:
        """How many requests are still to be answered."""
        return len(self.waiting) + len(self.delayed) + len(self.taken) + self.in_flight

    def admitted(self) -> tuple[list[Job], float]:
        """The requests that may be sent now, and how many seconds until more may."""
        now = self._clock()
        while self.delayed and self.delayed[0][0] <= now:
            self.waiting.append(heapq.heappop(self.delayed)[2])
        until = self.delayed[0][0] - now if self.delayed else LONGEST_WAIT_S
        resting = max(self.paused_until, self.breaker.until) - now
        if resting > 0:
            return [], min(resting, LONGEST_WAIT_S)
        free = int(self.window.size) - self.in_flight
        if self.breaker.is_open:  # what was under way when it opened, and may hang, is not the one that tries
            free = 1 - sum(at >= self.breaker.until for at in self.sent_at.values())
        jobs: list[Job] = []
        while self.waiting and len(jobs) < free:
            wait = self._wait(self.waiting[0], now)
            if wait > 0:
                until = min(until, wait)
                break
            jobs.append(self.waiting.popleft())
        return jobs, until

    def _wait(self, job: Job, now: float) -> float:
        """Seconds until the limits a minute let a request through; none: it is taken off them."""
        needed = self._expected(job)
        wait = max(self.requests.wait(1, now) if self.requests else 0.0, self.tokens.wait(needed, now) if self.tokens else 0.0)
        if wait == 0:
            if self.requests:
                self.requests.take(1)
            if self.tokens:
                self.tokens.take(needed)
        return wait

    def _expected(self, job: Job) -> float:
        """Tokens that a request is taken to need until it is known: a quarter of its characters, and all that it may answer."""
        return sum(len(m["content"]) for m in job.request.messages) / 4 + wire.limit_of(self.config, job.request)

    def not_sent(self, job: Job) -> None:
        """It was admitted, and not sent after all."""
        if self.requests:
            self.requests.give_back(1)
        if self.tokens:
            self.tokens.give_back(self._expected(job))

    def later(self, job: Job, seconds: float) -> None:
        """Send it again, after so many seconds."""
        heapq.heappush(self.delayed, (self._clock() + seconds, next(self._order), job))

    # --- what came of it ---

    async def ask(
        self, job: Job, session: aiohttp.ClientSession, proxy: str | None, timeout: aiohttp.ClientTimeout
    ) -> tuple[Answer | Trouble, float | None]:
        """One sending: (what came of it, the seconds that the server asks us to wait before the next)."""
        import aiohttp

        headers = {"Content-Type": "application/json", "Idempotency-Key": job.sending.key.hex()}
        if self.secret:
            headers["Authorization"] = self.secret.header()
        sent_at, pause = self.sent_at[job], None
        try:
            body = wire.body_of(self.config, job.request)
            async with session.post(self.url, data=body, headers=headers, allow_redirects=False, proxy=proxy, timeout=timeout) as response:
                if response.status >= 300:
                    pause = pause_asked({name.lower(): self._masked(value) for name, value in response.headers.items()}, time.time())
                outcome = read(self.config, job.request, response.status, await _body(response), self._masked)
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:  # whose text has the proxy's password
            outcome = Trouble(
                "failed", f"the proxy does not let it through ({getattr(error, 'status', type(error).__name__)})", connected=False
            )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ServerFingerprintMismatch) as error:
            outcome = Trouble("failed", f"no connection ({self._first_line(error)})", connected=False)
        except aiohttp.InvalidURL:
            outcome = Trouble("closed", f"{self.url}, or the address of the proxy, is not an address")
        except TimeoutError:
            outcome = Trouble("cut", f"no answer within {self.config.limits.timeout_s:g} s", congested=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            outcome = Trouble("cut", f"the connection broke ({self._first_line(error)})")
        outcome = self._without_key(self._of_this_request(outcome))
        self._learn(outcome, sent_at, pause.seconds if pause else None)
        if pause and pause.remark:
            self.say(f"{self.name}: {pause.remark}", once="Retry-After")
        if isinstance(outcome, Answer) and self.tokens:
            self.tokens.give_back(self._expected(job) - outcome.prompt_tokens - outcome.completion_tokens)
        return outcome, pause.seconds if pause else None

    def _masked(self, text: str) -> str:
        """A text about an error without what it must not repeat: the key, and names and passwords in addresses."""
        text = re.sub(r"://[^/@\s]+@", "://", text)
        return self.secret.removed_from(text) if self.secret else text

    def _first_line(self, error: BaseException) -> str:
        text = self._masked(next(iter(str(error).splitlines()), ""))
        return f"{type(error).__name__}{': ' + text[:ERROR_CHARACTERS] if text else ''}"

    def _of_this_request(self, outcome: Answer | Trouble) -> Answer | Trouble:
        """Where others were answered, a 403 or 404 is about the request: a filter, a gateway."""
        if isinstance(outcome, Trouble) and outcome.kind == "closed" and not outcome.of_all and (self.answered or self.kept):
            self.turned_away += 1
            if self.turned_away < REFUSED_AT_FIRST:  # so many in a row are no filter: the key has ended, the model has gone
                return Trouble("refused", outcome.problem.partition(";")[0])
        return outcome

    def _without_key(self, outcome: Answer | Trouble) -> Answer | Trouble:
        """An answer might repeat the key; nothing keeps it. A name is cut after that: half a key would not be found."""
        if isinstance(outcome, Trouble):
            return outcome
        given = outcome.text, outcome.finish_reason, outcome.served
        text, reason, served = map(self.secret.removed_from_answer, given) if self.secret else given
        return replace(outcome, text=text, finish_reason=reason, served=served[:NAME_CHARACTERS])

    def _learn(self, outcome: Answer | Trouble, sent_at: float, pause_s: float | None) -> None:
        """What an outcome says about the server."""
        now = self._clock()
        if isinstance(outcome, Answer):
            self.answered += 1
            self.turned_away = 0
            self.window.grow()
            self.breaker.well()
            return
        self.troubles[outcome.kind] += 1
        if outcome.kind == "refused":
            self.breaker.well()
            self.refused = outcome.problem
            if not (self.answered or self.kept) and self.troubles["refused"] >= REFUSED_AT_FIRST:
                self.closed = f"it refused the first {REFUSED_AT_FIRST} requests, so it is not the requests: {outcome.problem}"
            return
        if outcome.kind == "closed":
            self.closed = self.closed or outcome.problem
            return
        if outcome.congested or pause_s is not None:
            self.window.cut(sent_at, now)
        if pause_s is not None:  # all of them, and not all at the same moment afterwards: the window lets them through bit by bit
            self.paused_until = max(self.paused_until, now + pause_s)
        if outcome.kind == "busy":
            return
        self.breaker.failed(now)
        if self.breaker.is_open:
            self.say(f"{self.name}: {outcome.problem}; trying on for {self.config.limits.patience_s:.0f} s", once="failing")
        if self.breaker.is_dead(sent_at):
            self.closed = self.closed or f"nothing was answered for {self.config.limits.patience_s:.0f} s: {outcome.problem}"

    def say(self, text: str, *, once: str) -> None:
        """A line on stderr, the first time."""
        if once not in self._said:
            self._said.add(once)
            say(text)

    def retry(self, job: Job, trouble: Trouble, pause_s: float | None) -> bool:
        """Whether a request without an answer is sent again, by and by."""
        unit = seeded_unit(self._seed, "backoff", job.sending.key.hex(), job.tries + job.patience)
        if trouble.kind == "busy":
            job.patience += 1  # not counted as a try: the server said that it did nothing
            wait = backoff_s(job.patience, unit)
            if pause_s is not None:  # taken at its word once; one that says 0 again and again is not
                wait = max(pause_s * (1 + 0.1 * unit), wait if job.patience > 1 else 0.0)
            self.later(job, wait)
            return True
        job.tries += trouble.connected  # one that never left is a matter of patience
        job.cut += trouble.kind == "cut"
        if job.tries >= TRIES or job.cut >= CUT_TRIES:
            self.given_up.append((job, trouble.problem))
            return False
        self.later(job, max(pause_s or 0.0, backoff_s(max(1, job.tries), unit)))
        return True


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """All of a reply, unpacked, unless it is absurdly long."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > BODY_LIMIT:
            response.close()
            raise ValueError(f"a reply of more than {BODY_LIMIT:,} bytes")
    return b"".join(parts)


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address (`HTTPS_PROXY`, `NO_PROXY`), as every other program reads it."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)
