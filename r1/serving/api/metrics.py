"""Prometheus metrics under vLLM's names, so that its dashboards show this server too."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from r1.serving.api.model_side import ModelSide
from r1.serving.api.replies import TokenCounts

# vLLM's buckets (vllm/v1/metrics/loggers.py), in seconds.
_FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)


class ServerMetrics:
    """Counts replies, tokens and times of one served model."""

    def __init__(self, model: ModelSide, model_name: str) -> None:
        self._registry = CollectorRegistry()
        labels = {"model_name": model_name}

        def counter(name: str, text: str, *more: str) -> Counter:
            return Counter(f"vllm:{name}", text, [*labels, *more], registry=self._registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            metric = Histogram(
                f"vllm:{name}_seconds", text, [*labels], registry=self._registry, buckets=buckets
            )
            return metric.labels(**labels)

        self._prompt = counter("prompt_tokens", "Prompt tokens.").labels(**labels)
        self._generation = counter("generation_tokens", "Generated tokens.").labels(**labels)
        self._cached = counter("prefix_cache_hits", "Prompt tokens from the cache.").labels(
            **labels
        )
        self._queries = counter("prefix_cache_queries", "Prompt tokens looked up.").labels(**labels)
        self._success = counter("request_success", "Replies by how they ended.", "finished_reason")
        self._model_name = model_name
        self._first = histogram("time_to_first_token", "First token.", _FIRST_TOKEN_BUCKETS)
        self._between = _TokenHistogram("vllm:inter_token_latency_seconds", model_name)
        self._mean = histogram(
            "request_time_per_output_token", "Mean time a token of a reply.", _TOKEN_BUCKETS
        )
        self._whole = histogram("e2e_request_latency", "Whole replies.", _REQUEST_BUCKETS)
        self._registry.register(self._between)
        self._registry.register(_LoadCollector(model, model_name))

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        return self._registry.collect()

    def watch(self) -> ReplyClock:
        """A clock for one reply that begins now."""
        return ReplyClock(self)

    def first_token(self, seconds: float) -> None:
        self._first.observe(seconds)

    def more_tokens(self, seconds: float, num_tokens: int) -> None:
        self._between.observe(seconds / num_tokens, num_tokens)

    def finished(self, reason: str, counts: TokenCounts, seconds: float, decode: float) -> None:
        self._success.labels(model_name=self._model_name, finished_reason=reason).inc()
        self._prompt.inc(counts.num_prompt)
        self._generation.inc(counts.num_completion)
        self._queries.inc(counts.num_prompt)
        self._cached.inc(counts.num_cached)
        self._whole.observe(seconds)
        if counts.num_completion > 1:
            self._mean.observe(decode / (counts.num_completion - 1))


class MergedMetrics(Collector):
    """The metrics of several models as one exposition: each family once, with all samples."""

    def __init__(self, parts: Sequence[ServerMetrics]) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for part in self._parts:
            for family in part.collect():
                if family.name in families:
                    families[family.name].samples += family.samples
                else:
                    families[family.name] = family
        return families.values()

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self)


class ReplyClock:
    """Measures one reply."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._start = time.perf_counter()
        self._first: float | None = None
        self._last = self._start

    def tokens(self, num_tokens: int) -> None:
        """Tokens have come."""
        now = time.perf_counter()
        if self._first is None:
            self._first = now
            self._metrics.first_token(now - self._start)
            num_tokens -= 1
        if num_tokens > 0:
            self._metrics.more_tokens(now - self._last, num_tokens)
        self._last = now

    def end(self, reason: str, counts: TokenCounts) -> None:
        """The reply has ended, or was cut off ("abort")."""
        first = self._start if self._first is None else self._first
        self._metrics.finished(
            reason, counts, time.perf_counter() - self._start, self._last - first
        )


class _TokenHistogram:
    """A histogram that takes many equal values at once, as the tokens of one message are."""

    def __init__(self, name: str, model_name: str) -> None:
        self._name = name
        self._model_name = model_name
        self._counts = [0] * (len(_TOKEN_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float, num_tokens: int) -> None:
        self._counts[bisect_left(_TOKEN_BUCKETS, seconds)] += num_tokens
        self._sum += seconds * num_tokens

    def collect(self) -> Iterator[Metric]:
        bounds = [*map(str, _TOKEN_BUCKETS), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family = HistogramMetricFamily(self._name, "Between tokens.", labels=["model_name"])
        family.add_metric([self._model_name], buckets, self._sum)
        yield family


class _LoadCollector:
    """Reads the model's load when it is asked for."""

    def __init__(self, model: ModelSide, model_name: str) -> None:
        self._model = model
        self._model_name = model_name

    def collect(self) -> Iterator[Metric]:
        load = self._model.load()
        gauges = {
            "num_requests_running": load.num_running,
            "num_requests_waiting": load.num_waiting,
            "kv_cache_usage_perc": load.kv_cache_usage,
        }
        for name, value in gauges.items():
            gauge = GaugeMetricFamily(f"vllm:{name}", name, labels=["model_name"])
            gauge.add_metric([self._model_name], value)
            yield gauge
        preemptions = CounterMetricFamily(
            "vllm:num_preemptions", "Sequences computed again.", labels=["model_name"]
        )
        preemptions.add_metric([self._model_name], load.num_preemptions)
        yield preemptions
