"""What a Prometheus server says about a service: every sample of a query must keep its limits.

Only a sample beyond a limit is the service's fault. When Prometheus cannot be asked, refuses the query, or has nothing
to tell, guard could not measure: that says nothing about the service.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from guard.checks.http import HttpProbe
from guard.checks.http_answer import BODY_LIMIT, Answer
from guard.checks.http_tls import Tls
from guard.checks.site import Site
from guard.checks.verdict import excerpt, unhealthy, unknown
from guard.config.checks.prometheus import PrometheusCheck
from guard.config.promql import fill
from guard.engines.resolve import Resolver, resolver
from guard.model import Measurement, State


@dataclass(frozen=True, slots=True)
class Limits:
    """Inclusive. None: no limit on that side."""

    low: float | None = None
    high: float | None = None

    def beyond(self, value: float) -> float:
        """How far ``value`` is outside; 0 when it is not."""
        below = self.low - value if self.low is not None else 0.0
        above = value - self.high if self.high is not None else 0.0
        return max(below, above, 0.0)

    def __str__(self) -> str:
        told = [f"at least {self.low:g}"] if self.low is not None else []
        return " and ".join([*told, *([f"at most {self.high:g}"] if self.high is not None else [])])


@dataclass(frozen=True, slots=True)
class Sample:
    """One value, with the labels that tell it from the others ("" for a scalar)."""

    labels: str
    value: float

    def __str__(self) -> str:
        return f"{self.value:g}" + (f" for {self.labels}" if self.labels else "")


class PrometheusProbe:
    def __init__(
        self,
        url: str,
        query: str,
        limits: Limits,
        timeout_s: float,
        *,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        names: Resolver = resolver,
    ) -> None:
        base = httpx.URL(url)
        asked = base.copy_with(path=base.path.rstrip("/") + "/api/v1/query")
        asked = asked.copy_merge_params({"query": query, "timeout": f"{timeout_s:.3f}"})  # it ends there as well
        self._request = HttpProbe(str(asked), timeout_s, headers=headers, tls=tls or Tls(), names=names)
        self._limits = limits

    @classmethod
    def build(cls, check: PrometheusCheck, site: Site) -> PrometheusProbe:
        what = f"check {check.name}"
        query = check.query
        return cls(
            site.render(check.url, what),
            query if site.host is None else fill(query, lambda place: site.render(place, what)),
            Limits(check.min, check.max),
            check.timeout,
            headers={name: site.render(value, what) for name, value in check.headers.items()},
            tls=Tls(check.tls_verify, check.tls_ca),
        )

    async def measure(self) -> Measurement:
        answer, latency = await self._request.fetch()
        if isinstance(answer, Measurement):
            return unknown(f"Prometheus could not be asked: {answer.reason}", answer.evidence)
        return judge(self._limits, answer, latency)


def judge(limits: Limits, answer: Answer, latency: float) -> Measurement:
    """What an answer of Prometheus says of the service."""
    if answer.truncated:
        return unknown(f"the answer is larger than {BODY_LIMIT >> 10} KiB: let the query aggregate (sum, max, topk)")
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or document.get("status") not in ("success", "error"):
        shown = {"status": str(answer.status), "body": excerpt(answer.body.decode(errors="replace"))}
        return unknown(f"no answer of a Prometheus server: status {answer.status}", shown)
    if document["status"] == "error":
        return unknown(f"Prometheus cannot answer: {excerpt(str(document.get('error')), 300)}")
    samples = _samples(document.get("data"))
    return _against(limits, samples, latency) if isinstance(samples, list) else unknown(samples)


def _against(limits: Limits, samples: list[Sample], latency: float) -> Measurement:
    """A sample beyond a limit counts, whatever the others are; else one that is no number leaves it open."""
    numbers = [sample for sample in samples if not math.isnan(sample.value)]
    outside = [sample for sample in numbers if limits.beyond(sample.value) > 0]
    evidence = {"samples": str(len(samples)), "limits": str(limits)}
    if outside:
        worst = max(outside, key=lambda sample: limits.beyond(sample.value))
        evidence |= {"value": f"{worst.value:g}", "labels": worst.labels}
        rest = f" ({len(outside)} of {len(samples)} samples are outside)" if len(samples) > 1 else ""
        return unhealthy(f"{worst}, expected {limits}{rest}", latency, evidence)
    if not samples:
        return unknown("the query has no data: no such series, or nothing scraped lately", evidence)
    if len(numbers) < len(samples):
        odd = next(sample for sample in samples if math.isnan(sample.value))
        return unknown(f"the query gives NaN, which is no number{f' for {odd.labels}' if odd.labels else ''}", evidence)
    if len(samples) == 1:
        evidence["value"] = f"{samples[0].value:g}"
        return Measurement(State.HEALTHY, latency, f"{samples[0].value:g}, expected {limits}", evidence)
    lowest, highest = min(s.value for s in samples), max(s.value for s in samples)
    told = f"{len(samples)} samples from {lowest:g} to {highest:g}, expected {limits}"
    return Measurement(State.HEALTHY, latency, told, evidence)


def _samples(data: object) -> list[Sample] | str:
    """The samples, or a sentence that says why there are none to compare."""
    kind = data.get("resultType") if isinstance(data, dict) else None
    result = data.get("result") if isinstance(data, dict) else None
    if kind == "scalar":
        value = _value(result)
        return [Sample("", value)] if value is not None else "the answer's scalar cannot be read"
    if kind == "vector" and isinstance(result, list):
        samples = []
        for entry in result:
            value = _value(entry.get("value")) if isinstance(entry, dict) else None
            if value is None:
                return "the query gives something that is no number, such as a histogram"
            samples.append(Sample(_labels(entry.get("metric")), value))
        return samples
    return f"the query gives a {excerpt(str(kind), 20)}, expected a vector or a scalar (an instant query)"


def _value(pair: object) -> float | None:
    """Of ``[time, "value"]``. NaN, +Inf and -Inf are written as such."""
    if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], str):
        return None
    try:
        return float(pair[1])
    except ValueError:
        return None


def _labels(metric: object) -> str:
    """As PromQL writes them."""
    if not isinstance(metric, dict) or not metric:
        return ""
    pairs = {str(key): str(value) for key, value in metric.items()}
    name = pairs.pop("__name__", "")
    inside = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted(pairs.items()))
    return excerpt(name + (f"{{{inside}}}" if inside else ""), 120)
