"""What ``/metrics`` and the receipts of the toxics say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from chaos.clock import wall_clock_iso
from chaos.proxy.proxies import Proxy, ProxyCollection, ProxyCounters
from chaos.proxy.toxics import Direction, InstalledToxic, Meter

Key = tuple[str, str, str]
"""Name, listener and upstream of a proxy."""

_OF_PROXIES: tuple[tuple[str, str, Callable[[ProxyCounters], int]], ...] = (
    ("accepted_connections_total", "Connections accepted.", lambda counted: counted.connections),
    (
        "refused_connections_total",
        "Connections broken off at once, by a toxic or a limit.",
        lambda counted: counted.refused,
    ),
)
_OF_TOXICS: tuple[tuple[str, str, Callable[[Meter], float]], ...] = (
    ("connections_total", "Connections that the toxic touched.", lambda meter: meter.connections),
    ("requests_total", "HTTP requests that the toxic fell on.", lambda meter: meter.requests),
    ("bytes_total", "Bytes that the toxic touched.", lambda meter: meter.bytes),
)


def metrics_lines(proxies: ProxyCollection, *, now_s: float, wall_s: float) -> Iterable[str]:
    """Yield the lines of ``/metrics`` in Prometheus' text format: the real server's two counters, and more.

    ``now_s`` and ``wall_s`` are one moment, on the monotonic clock and as seconds since 1970.
    """
    counters = sorted(proxies.counters().items())
    for what in ("received", "sent"):
        metric = f"toxiproxy_proxy_{what}_bytes_total"
        yield from _header(metric, f"Bytes {what} by the proxy, counted as they pass.", "counter")
        for key, counted in counters:
            for direction in sorted(Direction):
                stream = counted.stream(direction)
                value = stream.received_bytes if what == "received" else stream.sent_bytes
                yield f'{metric}{{direction="{direction}",{_labels(key)}}} {value}'
    for name, meaning, of_proxy in _OF_PROXIES:
        yield from _header(f"chaos_proxy_{name}", meaning, "counter")
        for key, counted in counters:
            yield f"chaos_proxy_{name}{{{_labels(key)}}} {of_proxy(counted)}"
    yield from _header("chaos_proxy_open_connections", "Connections open now.", "gauge")
    for proxy in proxies.all():
        yield f"chaos_proxy_open_connections{{{_labels(_key(proxy))}}} {len(proxy.links)}"
    yield from _header("chaos_proxy_expired_toxics_total", "Toxics whose lease nobody renewed.", "counter")
    yield f"chaos_proxy_expired_toxics_total {proxies.expired_toxics}"
    yield from _toxic_lines(proxies, wall_s - now_s)


def _toxic_lines(proxies: ProxyCollection, offset_s: float) -> Iterator[str]:
    installed = [(_toxic_labels(proxy, toxic), toxic.life.meter) for proxy in proxies.all() for toxic in proxy.toxics()]
    for name, meaning, of_toxic in _OF_TOXICS:
        yield from _header(f"chaos_toxic_{name}", meaning, "counter")
        for labels, meter in installed:
            yield f"chaos_toxic_{name}{{{labels}}} {of_toxic(meter)}"
    for which in ("first", "last"):
        metric = f"chaos_toxic_{which}_touch_timestamp_seconds"
        yield from _header(
            metric, f"When the toxic touched something {'at first' if which == 'first' else 'last'}.", "gauge"
        )
        for labels, meter in installed:
            moment_s = meter.first_s if which == "first" else meter.last_s
            if moment_s is not None:
                yield f"{metric}{{{labels}}} {moment_s + offset_s:.3f}"


def receipt_form(toxic: InstalledToxic, *, offset_s: float) -> dict[str, object]:
    """Return what a toxic has touched; ``offset_s`` is added to a moment to make it seconds since 1970."""
    meter = toxic.life.meter
    return {
        "connections": meter.connections,
        "requests": meter.requests,
        "bytes": meter.bytes,
        "first": None if meter.first_s is None else wall_clock_iso(meter.first_s + offset_s),
        "last": None if meter.last_s is None else wall_clock_iso(meter.last_s + offset_s),
    }


def _header(metric: str, meaning: str, kind: str) -> Iterator[str]:
    yield f"# HELP {metric} {meaning}"
    yield f"# TYPE {metric} {kind}"


def _key(proxy: Proxy) -> Key:
    return proxy.name, proxy.listen, proxy.upstream


def _labels(key: Key) -> str:
    name, listen, upstream = map(_escaped, key)
    return f'listener="{listen}",proxy="{name}",upstream="{upstream}"'


def _toxic_labels(proxy: Proxy, toxic: InstalledToxic) -> str:
    return (
        f'proxy="{_escaped(proxy.name)}",stream="{toxic.direction}",toxic="{_escaped(toxic.name)}",'
        f'type="{toxic.toxic.kind}"'
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
