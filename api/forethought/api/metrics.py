"""Prometheus metrics, in a registry of their own: two apps in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from forethought.router.budget import Budget
from forethought.router.log import LogWriter
from forethought.router.records import Decision, LearnedContext, Outcome

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_BUDGET = {
    "budget_usd": ("budget_usd", "Budget of a period"),
    "spent_usd": ("budget_spent_usd", "Spent of the budget in this period"),
    "sleep_usd": ("budget_sleep_usd", "Of it on sleep"),
    "reserved_usd": ("budget_reserved_usd", "Held back for requests under way"),
    "multiplier": ("budget_multiplier", "Dollars of worth that a dollar spent has to bring"),
    "refused": ("budget_refused", "Requests refused since the start"),
}
"""Gauges by the fields of ``BudgetStatus``."""

_OVERHEAD_SECONDS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.03, 0.1, 1.0)


class Metrics:
    """What the server counts. The gateway's observer, and the sleep's and the policy's."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter(
            "requests", "HTTP requests answered", "route", "status", "strategy"
        )
        self._outcomes = self._counter("outcomes", "Answers, by what came of them", "status")
        self._fallbacks = self._counter("fallbacks", "Answers of another model, by it", "model")
        self._decisions = self._counter("decisions", "Decisions", "strategy", "mode")
        self._tokens = self._counter("tokens", "Tokens at test time", "kind", "strategy")
        self._cost = self._counter("cost_usd", "Cost at test time, where known", "strategy")
        self._unpriced = self._counter("unpriced", "Answers whose price is unknown")
        self._latency = Histogram(
            "forethought_latency_seconds",
            "From request to the end of the answer",
            ("strategy",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._ttft = Histogram(
            "forethought_first_token_seconds",
            "From request to the first token of a stream",
            ("strategy",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._overhead = Histogram(
            "forethought_overhead_seconds",
            "Time that was not spent waiting for the upstream",
            buckets=_OVERHEAD_SECONDS,
            registry=self.registry,
        )
        self._sleeps = self._counter("sleep_runs", "Learned contexts written", "level")
        self._sleep_tokens = self._counter("sleep_tokens", "Tokens at sleep time", "kind")
        self._sleep_cost = self._counter("sleep_cost_usd", "Cost of sleep, where known")
        self._log_failures = self._counter("log_failures", "Records that were not logged", "what")
        self._policy_failures = self._counter("policy_failures", "Policies that did not load")
        self._policy = Gauge(
            "forethought_policy_info",
            "The policy that serves",
            ("version", "source"),
            registry=self.registry,
        )

        self._shadow = self._counter(
            "shadow_decisions", "Decisions that the challenger scored", "agrees"
        )
        self._shadow_failures = self._counter(
            "shadow_failures", "Decisions that the challenger did not score", "why"
        )
        self._shadow_seconds = Histogram(
            "forethought_shadow_seconds",
            "Time that the challenger took for a decision",
            buckets=_OVERHEAD_SECONDS,
            registry=self.registry,
        )
        self._challenger = Gauge(
            "forethought_challenger_info",
            "The policy that scores live traffic without serving it",
            ("version",),
            registry=self.registry,
        )
        self._drift_alarm = Gauge(
            "forethought_drift_alarm", "1 where the last check found drift", registry=self.registry
        )
        self._drift_psi = Gauge(
            "forethought_drift_psi_max",
            "Largest population stability index of a feature at the last check",
            registry=self.registry,
        )
        self._drift_error = Gauge(
            "forethought_drift_calibration_error",
            "Mean prediction minus mean judgement of quality at the last check",
            registry=self.registry,
        )
        self._runs = self._counter(
            "scheduled_runs", "Training and drift checks run on schedule", "what", "result"
        )
        self.after_reply: Callable[[Decision, Outcome], None] | None = None
        """Told of each answer when it was logged: the shadow."""

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def watch(self, writer: LogWriter) -> None:
        """Show how many records the log's writer could not store, and how many wait."""
        lost = Gauge("forethought_log_records_failed", "Records not stored", registry=self.registry)
        lost.set_function(lambda: writer.stats.failed)
        queued = Gauge("forethought_log_queued", "Records waiting", registry=self.registry)
        queued.set_function(lambda: writer.stats.queued)

    def watch_budget(self, budget: Budget) -> None:
        """Show how the period's budget stands."""

        def shown(field: str) -> Callable[[], float]:
            return lambda: float(getattr(budget.status, field))

        for field, (name, what) in _BUDGET.items():
            gauge = Gauge(f"forethought_{name}", what, registry=self.registry)
            gauge.set_function(shown(field))

    def answered(self, route: str, status: int, strategy: str) -> None:
        self._requests.labels(route, str(status), strategy).inc()

    def decided(self, decision: Decision) -> None:
        self._decisions.labels(decision.strategy, decision.mode).inc()

    def finished(self, decision: Decision, outcome: Outcome, overhead_ms: float) -> None:
        strategy, usage = decision.strategy, outcome.usage
        self._outcomes.labels(outcome.status).inc()
        self._overhead.observe(overhead_ms / 1000)
        self._latency.labels(strategy).observe(outcome.latency_ms / 1000)
        if outcome.ttft_ms is not None:
            self._ttft.labels(strategy).observe(outcome.ttft_ms / 1000)
        self._tokens.labels("input", strategy).inc(usage.input_tokens)
        self._tokens.labels("cached", strategy).inc(usage.cached_tokens)
        self._tokens.labels("cache_write", strategy).inc(usage.cache_write_tokens)
        self._tokens.labels("output", strategy).inc(usage.output_tokens)
        self._tokens.labels("reasoning", strategy).inc(usage.reasoning_tokens)
        if outcome.cost_usd is not None:
            self._cost.labels(strategy).inc(outcome.cost_usd)
        elif outcome.status == "ok":
            self._unpriced.inc()
        if outcome.model is not None and outcome.status == "ok":
            self._fallbacks.labels(outcome.model).inc()
        if self.after_reply is not None:
            self.after_reply(decision, outcome)

    def log_failed(self, what: str) -> None:
        self._log_failures.labels(what).inc()

    def slept(self, learned: LearnedContext) -> None:
        self._sleeps.labels(learned.level).inc()
        self._sleep_tokens.labels("input").inc(learned.usage.input_tokens)
        self._sleep_tokens.labels("cached").inc(learned.usage.cached_tokens)
        self._sleep_tokens.labels("cache_write").inc(learned.usage.cache_write_tokens)
        self._sleep_tokens.labels("output").inc(learned.usage.output_tokens)
        if learned.cost_usd is not None:
            self._sleep_cost.inc(learned.cost_usd)

    def policy_serves(self, version: str, source: str) -> None:
        self._policy.clear()
        self._policy.labels(version, source).set(1)

    def policy_failed(self) -> None:
        self._policy_failures.inc()

    def challenges(self, version: str | None) -> None:
        self._challenger.clear()
        if version is not None:
            self._challenger.labels(version).set(1)

    def shadow_scored(self, *, agrees: bool, took_ms: float) -> None:
        self._shadow.labels("yes" if agrees else "no").inc()
        self._shadow_seconds.observe(took_ms / 1000)

    def shadow_failed(self, why: str) -> None:
        self._shadow_failures.labels(why).inc()

    def drift_found(self, *, alarm: bool, psi: float | None, error: float | None) -> None:
        self._drift_alarm.set(alarm)
        for gauge, value in ((self._drift_psi, psi), (self._drift_error, error)):
            if value is not None:
                gauge.set(value)

    def scheduled(self, what: str, result: str) -> None:
        self._runs.labels(what, result).inc()

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"forethought_{name}", what, labels, registry=self.registry)
