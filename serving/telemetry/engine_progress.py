"""Whether an engine under load makes progress: by what it streams, else by the metrics that it reports."""

import time
from dataclasses import dataclass

from serving.telemetry.engine_metrics.page import Quantity
from serving.telemetry.engine_sampler import Scraper

# What changes only where an engine makes steps. A queue grows with the load alone.
STEPS: tuple[Quantity, ...] = (
    *("running", "kv_cache_share", "preemptions", "prefix_hits"),
    *("drafts", "accepted_drafts"),
)


@dataclass(slots=True)
class ProgressWatch:
    """Follows a load without a request of its own. `stuck`: why the engine counts as hung; empty: it works."""

    after_s: float
    scraper: Scraper
    stuck: str = ""

    def look(self, silent_s: float) -> None:
        """`silent_s`: for how long it has streamed nothing while requests wait."""
        if self.stuck or silent_s < self.after_s:
            return
        values = self._recent()
        if any(len(each) > 1 for each in values):
            return  # a long prompt, say: it computes, though it streams nothing
        same = ", and its metrics do not change" if values else ""
        self.stuck = f"no output for {silent_s:.0f} s while requests wait{same}"

    def _recent(self) -> list[set[float]]:
        """The values of each quantity that was read within the last `after_s`."""
        since_ns = time.monotonic_ns() - int(self.after_s * 1e9)
        read = [values for at_ns, values in tuple(self.scraper.samples) if at_ns >= since_ns]
        found = [{each[name] for each in read if name in each} for name in STEPS]
        return [values for values in found if values]
