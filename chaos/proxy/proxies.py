"""Proxies: listeners, each with its upstream, its toxics, its links and its counters; and the collection of them."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaos.clock import monotonic_s
from chaos.proxy.addresses import BACKLOG, LOOPBACK, address_text, open_listener, resolve, split_address
from chaos.proxy.leases import Lease, Leases, LeaseTerms
from chaos.proxy.link import Link
from chaos.proxy.problems import ProxyError
from chaos.proxy.toxics import Direction, InstalledToxic, Life, Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one server takes on, so that nobody can make it eat its machine."""

    proxies: int = 10_000
    connections: int = 25_000
    """Connections open at once, over all proxies; each takes two file descriptors."""


@dataclass(slots=True)
class StreamCounters:
    """Bytes of one direction."""

    received_bytes: int = 0
    """Read from the sender."""
    sent_bytes: int = 0
    """Handed on to the receiver; less than received where toxics hold or drop."""


@dataclass(slots=True)
class ProxyCounters:
    """What passed through the proxies that had one name, one listener and one upstream."""

    upstream: StreamCounters = field(default_factory=StreamCounters)
    downstream: StreamCounters = field(default_factory=StreamCounters)
    connections: int = 0
    """Connections accepted."""
    refused: int = 0
    """Of these, broken off at once: by a toxic, or because there were too many."""

    def stream(self, direction: Direction) -> StreamCounters:
        """Return the counters of one direction."""
        return self.upstream if direction is Direction.UPSTREAM else self.downstream

    def add(self, link: Link) -> None:
        """Add what passed on a link."""
        for direction in Direction:
            stream, pipe = self.stream(direction), link.pipe(direction)
            stream.received_bytes += pipe.received_bytes
            stream.sent_bytes += pipe.sent_bytes


class Proxy:
    """One proxy. It satisfies ``LinkOwner``."""

    def __init__(self, *, name: str, listen: str, upstream: str, collection: ProxyCollection) -> None:
        self.name = name
        self.listen = listen
        """Where it listens; with the real port once it was started."""
        self.upstream = upstream
        self.enabled = False
        self.links: dict[int, Link] = {}
        self._collection = collection
        self._toxics: dict[Direction, list[InstalledToxic]] = {direction: [] for direction in Direction}
        self._lives: dict[str, int] = {}  # toxics of each name that there have been
        self._counters = ProxyCounters()
        self._server: asyncio.Server | None = None
        self._accepted = 0

    # What its links ask it.

    def upstream_address(self) -> tuple[str, int]:
        """Return where the server is; ValueError when the address cannot be one."""
        host, port = split_address(self.upstream)
        return host or LOOPBACK, int(port)

    def link_opened(self, link: Link) -> int:
        """Note a link; return its number, 1 for the proxy's first."""
        self._accepted += 1
        self._counters.connections += 1
        self.links[self._accepted] = link
        self._collection.open_connections += 1
        return self._accepted

    def refuses(self, number: int) -> bool:
        """Whether the link of this number is to be broken off at once."""
        refused = self._collection.open_connections > self._collection.limits.connections
        for toxic in self.toxics():
            if isinstance(toxic.toxic, Refuse) and toxic.hits(number):
                toxic.life.meter.touch(monotonic_s(), connections=1)
                refused = True
        self._counters.refused += refused
        return refused

    def link_closed(self, link: Link) -> None:
        """Forget a link: both its connections are gone."""
        if self.links.pop(link.number, None) is not None:
            self._collection.open_connections -= 1
            self._counters.add(link)

    def counters(self) -> ProxyCounters:
        """Return what has passed until now, on open links too."""
        now = copy.deepcopy(self._counters)
        for link in self.links.values():
            now.add(link)
        return now

    # Its listener.

    async def start(self) -> None:
        """Listen. ProxyError (500) when that cannot be; a started proxy is left alone."""
        if self.enabled:
            return
        listener = await open_listener(self.listen)
        self.listen = address_text(listener.getsockname())
        self._counters = self._collection.counters_for(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self).caller, sock=listener, backlog=BACKLOG)
        self.enabled = True

    def stop(self) -> None:
        """Close the listener and cut every connection; a stopped proxy is left alone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.enabled = False
        for link in list(self.links.values()):
            link.cut()

    async def update(self, *, listen: str, upstream: str, enabled: bool) -> None:
        """Change where it listens and leads to (its connections are cut when that differs), and whether it is on."""
        if await self.differs(listen=listen, upstream=upstream):
            self.stop()
            self.listen = listen
            self.upstream = upstream
        if enabled:
            await self.start()
        else:
            self.stop()

    async def differs(self, *, listen: str, upstream: str) -> bool:
        """Whether a proxy with these addresses would be another one. ProxyError when ``listen`` is no address."""
        return self.listen != address_text(await resolve(listen)) or self.upstream != upstream

    # Its connections.

    def link(self, number: int) -> Link:
        """Return the open link of this number. ProxyError (404) when there is none."""
        try:
            return self.links[number]
        except KeyError:
            raise ProxyError("connection not found", 404) from None

    # Its toxics.

    def toxics(self) -> list[InstalledToxic]:
        """Return all toxics: those of the upstream direction first, each in order."""
        return [toxic for direction in Direction for toxic in self._toxics[direction]]

    def toxic(self, name: str) -> InstalledToxic:
        """Return the toxic of this name. ProxyError (404) when there is none."""
        for toxic in self.toxics():
            if toxic.name == name:
                return toxic
        raise ProxyError("toxic not found", 404)

    def new_life(self, name: str) -> Life:
        """Return the life of a toxic that is about to be added."""
        self._lives[name] = number = self._lives.get(name, 0) + 1
        return Life(since_s=monotonic_s(), seed=f"{self._collection.seed}/{self.name}/{name}/{number}")

    def add_toxic(self, toxic: InstalledToxic) -> None:
        """Put a toxic at the end of its direction's chain, on open connections too."""
        if any(other.name == toxic.name for other in self.toxics()):
            raise ProxyError("toxic already exists", 409)
        self._toxics[toxic.direction].append(toxic)
        now_s = monotonic_s()
        for link in self._joined():
            link.meet(now_s, toxic)

    def replace_toxic(self, toxic: InstalledToxic) -> None:
        """Give the toxic of this name other settings, on open connections too."""
        chain = self._toxics[toxic.direction]
        chain[:] = [toxic if other.name == toxic.name else other for other in chain]
        now_s = monotonic_s()
        for link in self._joined():
            link.change(now_s, toxic)

    def remove_toxic(self, name: str) -> None:
        """Take a toxic away, from open connections too. ProxyError (404) when there is none of this name."""
        toxic = self.toxic(name)
        self._toxics[toxic.direction].remove(toxic)
        self._collection.leases.end(self.lease_key(name))
        now_s = monotonic_s()
        for link in self._joined():
            link.part(now_s, toxic)

    def lend(self, toxic: InstalledToxic, terms: LeaseTerms | None) -> None:
        """Let a toxic go by itself after a time, unless its lease is renewed; None: leave it as it is."""
        key, leases = self.lease_key(toxic.name), self._collection.leases
        if terms is None:
            return
        if terms.ttl_s == 0:
            leases.end(key)
        else:
            leases.grant(key, terms, on_end=lambda: self._expire(toxic.name))

    def lease(self, name: str) -> Lease | None:
        """Return the lease of the toxic of this name; None when it has none."""
        return self._collection.leases.get(self.lease_key(name))

    def lease_key(self, name: str) -> tuple[str, str]:
        """Return what the lease of a toxic is known by."""
        return self.name, name

    def _expire(self, name: str) -> None:
        self._collection.expired_toxics += 1
        self.remove_toxic(name)

    def _joined(self) -> Iterator[Link]:
        return (link for link in list(self.links.values()) if link.joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """What makes a proxy; ``listen`` may be empty (some free port of 127.0.0.1)."""

    name: str
    listen: str
    upstream: str
    enabled: bool = True


class ProxyCollection:
    """All proxies of one server, by name. Changes are made one after the other."""

    def __init__(self, seed: int, limits: Limits | None = None) -> None:
        self.seed = seed
        self.limits = limits or Limits()
        self.leases = Leases()
        self.open_connections = 0
        """Over all proxies."""
        self.expired_toxics = 0
        """Toxics that went because nobody renewed their lease."""
        self._counters: dict[tuple[str, str, str], ProxyCounters] = {}
        self._proxies: dict[str, Proxy] = {}
        self._changing = asyncio.Lock()

    def all(self) -> list[Proxy]:
        """Return the proxies, by name."""
        return [self._proxies[name] for name in sorted(self._proxies)]

    def get(self, name: str) -> Proxy:
        """Return the proxy of this name. ProxyError (404) when there is none."""
        try:
            return self._proxies[name]
        except KeyError:
            raise ProxyError("proxy not found", 404) from None

    def counters_for(self, proxy: Proxy) -> ProxyCounters:
        """Return the counters of this proxy with the addresses that it has now."""
        if len(self._counters) >= 2 * self.limits.proxies:
            live = {_key(each) for each in self._proxies.values()}
            self._counters = {key: value for key, value in self._counters.items() if key in live}
        return self._counters.setdefault(_key(proxy), ProxyCounters())

    def counters(self) -> dict[tuple[str, str, str], ProxyCounters]:
        """Return what has passed by name, listener and upstream; of proxies that are gone as well, for a while."""
        now = {_key(proxy): proxy.counters() for proxy in self._proxies.values() if _key(proxy) in self._counters}
        return {**self._counters, **now}

    async def create(self, settings: ProxySettings) -> Proxy:
        """Make a proxy. ProxyError when the name is taken (409) or it cannot listen (500)."""
        async with self._changing:
            if settings.name in self._proxies:
                raise ProxyError("proxy already exists", 409)
            return await self._add(settings)

    async def populate(self, many: Sequence[ProxySettings], made: list[Proxy]) -> None:
        """Make many proxies in order, appending each to ``made``; replace those of the same name that differ.

        ProxyError when one cannot listen; those before it stay, and are in ``made``.
        """
        async with self._changing:
            for settings in many:
                existing = self._proxies.get(settings.name)
                if existing is not None:
                    if not await existing.differs(listen=settings.listen, upstream=settings.upstream):
                        made.append(existing)
                        continue
                    existing.stop()
                made.append(await self._add(settings))
                if existing is not None:  # only now: where the new one cannot listen, the old one and its toxics stay
                    self._end_leases(existing)

    async def update(self, name: str, *, listen: str, upstream: str, enabled: bool) -> Proxy:
        """Change a proxy. ProxyError when there is none (404) or it cannot listen (500)."""
        async with self._changing:
            proxy = self.get(name)
            await proxy.update(listen=listen, upstream=upstream, enabled=enabled)
            return proxy

    async def remove(self, name: str) -> None:
        """Stop and forget a proxy. ProxyError (404) when there is none."""
        async with self._changing:
            proxy = self.get(name)
            proxy.stop()
            self._end_leases(proxy)
            del self._proxies[name]

    async def reset(self) -> None:
        """Start every proxy and remove every toxic. ProxyError (500) when one cannot listen."""
        async with self._changing:
            for proxy in self.all():
                await proxy.start()
                for toxic in proxy.toxics():
                    proxy.remove_toxic(toxic.name)

    def stop(self) -> None:
        """Stop every proxy."""
        for proxy in self._proxies.values():
            proxy.stop()
            self._end_leases(proxy)

    def _end_leases(self, proxy: Proxy) -> None:
        for toxic in proxy.toxics():
            self.leases.end(proxy.lease_key(toxic.name))

    async def _add(self, settings: ProxySettings) -> Proxy:
        if settings.name not in self._proxies and len(self._proxies) >= self.limits.proxies:
            raise ProxyError(f"too many proxies: at most {self.limits.proxies} at once, delete some")
        proxy = Proxy(name=settings.name, listen=settings.listen, upstream=settings.upstream, collection=self)
        if settings.enabled:
            await proxy.start()
        self._proxies[settings.name] = proxy
        return proxy


def _key(proxy: Proxy) -> tuple[str, str, str]:
    return proxy.name, proxy.listen, proxy.upstream
