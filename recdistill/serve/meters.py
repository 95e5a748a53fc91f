"""What /metrics shows: of this process, or the sum over all that share a folder of counts (processes.py)."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess, values

from recdistill.serve.live import Live

__all__ = ["SHARED", "Meters", "share"]

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # in the environment: the folder of counts; a name of prometheus_client's
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


def share(number: int) -> None:
    """Let the meters that this process makes count in the folder of all, as process `number`: one that takes another's
    place goes on with its counts, so that neither sums nor files depend on how many have died.
    """
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


class Meters:
    """Counts of one server. registry: for meters of other parts; a gauge has to be set and to name how processes'
    values make one (`multiprocess_mode`), for a function is not called for other processes.
    """

    def __init__(self) -> None:
        self.registry, self._refused = CollectorRegistry(), 0
        self.answers = self._counter("recdistill_rank", "Requests answered, by status.", "status")
        self.candidates = self._counter("recdistill_candidates", "Candidates scored.")
        self.late = self._counter("recdistill_late", "Requests given up, as time was up.")
        self.restarts = self._counter("recdistill_restarts", "Processes that died and were started again.")
        self.refused = self._counter("recdistill_refused_versions", "Versions that were damaged, and not taken.")
        self.seconds = Histogram(
            "recdistill_rank_seconds", "From body to answer.", buckets=BUCKETS, registry=self.registry
        )
        self.version = self._gauge("recdistill_version", "The version that is served.")
        self.canary = self._gauge("recdistill_canary_version", "The version that answers some users, 0 for none.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry, multiprocess_mode="all")

    def follow(self, live: Live) -> None:
        """Take over what is served now."""
        self.version.set(live.scorer.version)
        self.canary.set(live.canary)
        if live.refused != self._refused:
            self.refused.inc(live.refused - self._refused)
            self._refused = live.refused

    def page(self) -> bytes:
        """Return the text of /metrics."""
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        whole = CollectorRegistry()
        multiprocess.MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        return generate_latest(whole)
