"""Reads an engine's metrics page for the length of a with block, on a thread that gives way to the load."""

import http.client
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from serving import probe
from serving.telemetry.engine_metrics.page import MetricsPage, Quantity, parse, together
from serving.telemetry.engine_metrics.trace import EngineTrace, engine_trace

EVERY_S = 1.0
ANSWER_S = 2.0  # for one page; an engine under load answers late
ATTEMPTS = 3  # an engine that has no page at first has none later
LOWEST_PRIORITY = 19
NO_PAGE = "the engine has no metrics page that is known"


class PageError(Exception):
    """A page can't be read. One line."""


def fetched(url: str, api_key: str | None, answer_s: float = ANSWER_S) -> bytes:
    """The body of a 200, whole within `answer_s`. Raises PageError."""
    path = urllib.parse.urlsplit(url).path
    try:
        status, body = probe.ask(url, answer_s, headers=probe.bearer(api_key))
    except probe.AnswerTooLong as error:
        raise PageError(f"{path} is {error}") from error
    except TimeoutError as error:
        raise PageError(f"{path} did not answer within {answer_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise PageError(f"{path}: {error or type(error).__name__}") from error
    if status != 200:
        raise PageError(f"{path} answered {status}")
    return body


@dataclass(slots=True)
class Scraper:
    """The samples so far. `path`: where the engine's page was found; `cpu_s`: what reading it cost."""

    page: MetricsPage
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    every_s: float = EVERY_S
    answer_s: float = ANSWER_S
    samples: list[tuple[int, dict[Quantity, float]]] = field(default_factory=list)
    path: str = ""
    missed: int = 0
    cpu_s: float = 0.0
    absent_because: str = ""
    more_urls: tuple[str, ...] = ()  # of the other engines of the trial

    def sample(self) -> None:
        """Reads the page once; a failure is kept as `absent_because`."""
        before_s, reasons = time.thread_time(), []
        for path in (self.path,) if self.path else self.page.paths:
            try:
                bodies = [
                    fetched(f"{url}{path}", self.api_key, self.answer_s)
                    for url in (self.base_url, *self.more_urls)
                ]
            except PageError as error:
                reasons.append(str(error))
                continue
            at_ns = time.monotonic_ns()
            if values := together([parse(body, self.page) for body in bodies]):
                self.path = path
                self.samples.append((at_ns, values))
                break
            reasons.append(f"{path} has no series that is known")
        else:
            self.missed += 1
            self.absent_because = "; ".join(dict.fromkeys(reasons))
        self.cpu_s += time.thread_time() - before_s

    @property
    def gives_up(self) -> bool:
        """Whether the engine has no such page."""
        return not self.samples and self.missed >= ATTEMPTS

    def trace(self) -> EngineTrace:
        """All samples."""
        because = self.absent_because if not self.samples else ""
        if not self.page.paths:
            because = NO_PAGE
        elif because and self.page.absent:
            because = f"{because} ({self.page.absent})"
        elif not because and not self.samples:
            because = "the engine's metrics page was not read in time"
        return engine_trace(tuple(self.samples), self.path, self.every_s, because)

    def summary(self) -> str:
        """How often the page was read and what a reading cost, for the provenance."""
        read = len(self.samples)
        if not read:
            return f"unavailable: {self.trace().absent_because}"
        missed = f", {self.missed} missed" if self.missed else ""
        cost_ms = self.cpu_s / (read + self.missed) * 1e3
        return f"{self.path} read {read} times{missed}, {cost_ms:.2f} ms of CPU each"


@contextmanager
def engine_metered(
    page: MetricsPage,
    base_url: str,
    api_key: str | None = None,
    *,
    more_urls: tuple[str, ...] = (),
    every_s: float = EVERY_S,
    answer_s: float = ANSWER_S,
) -> Iterator[Scraper]:
    """Reads the page during the block and once after it, which takes `answer_s` at most. It never fails.

    `more_urls`: of other engines, whose figures are put together with those of the first.
    """
    scraper = Scraper(page, base_url, api_key, every_s, answer_s, more_urls=more_urls)
    if not page.paths:
        yield scraper
        return
    done = threading.Event()

    def run() -> None:
        with suppress(OSError):  # the load comes first where cores are short
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        due_s, ended = time.monotonic(), False
        while not scraper.gives_up:
            scraper.sample()
            if ended:
                return
            due_s = max(due_s + every_s, time.monotonic())
            ended = done.wait(due_s - time.monotonic())

    thread = threading.Thread(target=run, daemon=True, name="engine metrics")
    thread.start()
    try:
        yield scraper
    finally:
        done.set()
        thread.join(2 * len(page.paths) * answer_s)
