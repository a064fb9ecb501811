"""Proxies: listeners, each with its upstream, its toxics, its links and its counters; and the collection of them."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chaos.clock import monotonic_s
from chaos.proxy.link import Link, StreamCounters
from chaos.proxy.toxics import Direction, InstalledToxic

BACKLOG = 1024
PROXIES_MAX = 10_000
COUNTERS_MAX = 2 * PROXIES_MAX
LOOPBACK = "127.0.0.1"
EVERY_INTERFACE = "::"
"""Listened at only where a proxy is asked for with a port and no host; see ``_resolve``."""


class ProxyError(Exception):
    """A request to the proxies that cannot be met; ``status`` is the HTTP status it becomes."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class CannotBindError(ProxyError):
    """A proxy's address is right, but this machine does not let it listen there."""


@dataclass(slots=True)
class ProxyCounters:
    """What passed through the proxies that had one name, one listener and one upstream."""

    upstream: StreamCounters = field(default_factory=StreamCounters)
    downstream: StreamCounters = field(default_factory=StreamCounters)
    connections: int = 0
    """Connections accepted."""

    def stream(self, direction: Direction) -> StreamCounters:
        """Return the counters of one direction."""
        return self.upstream if direction is Direction.UPSTREAM else self.downstream


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
        self._counters = ProxyCounters()
        self._server: asyncio.Server | None = None
        self._accepted = 0

    # What its links ask it.

    def counters(self, direction: Direction) -> StreamCounters:
        """Return where the bytes of this direction are counted."""
        return self._counters.stream(direction)

    def installed(self, direction: Direction) -> Sequence[InstalledToxic]:
        """Return the toxics of this direction, in order."""
        return self._toxics[direction]

    def upstream_address(self) -> tuple[str, int]:
        """Return where the server is; ValueError when the address cannot be one."""
        host, port = split_address(self.upstream)
        return host or LOOPBACK, int(port)

    def link_opened(self, link: Link) -> int:
        """Note a link; return its number, 1 for the proxy's first."""
        self._accepted += 1
        self._counters.connections += 1
        self.links[self._accepted] = link
        return self._accepted

    def link_rng(self, number: int) -> random.Random:
        """Return the source of all random choices on a link: a function of seed, proxy and the link's number."""
        return random.Random(f"{self._collection.seed}/{self.name}/{number}")

    def link_closed(self, link: Link) -> None:
        """Forget a link: both its connections are gone."""
        self.links.pop(link.number, None)

    # Its listener.

    async def start(self) -> None:
        """Listen. ProxyError (500) when that cannot be; a started proxy is left alone."""
        if self.enabled:
            return
        listener = await _listener(self.listen)
        self.listen = _address_text(listener.getsockname())
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
        return self.listen != _address_text(await _resolve(listen)) or self.upstream != upstream

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

    def add_toxic(self, toxic: InstalledToxic) -> None:
        """Put a toxic at the end of its direction's chain, on open connections too."""
        if any(other.name == toxic.name for other in self.toxics()):
            raise ProxyError("toxic already exists", 409)
        self._toxics[toxic.direction].append(toxic)
        now_s = monotonic_s()
        for link in self._joined():
            link.pipe(toxic.direction).add_toxic(now_s, toxic)

    def replace_toxic(self, toxic: InstalledToxic) -> None:
        """Give the toxic of this name other settings, on open connections too."""
        chain = self._toxics[toxic.direction]
        chain[:] = [toxic if other.name == toxic.name else other for other in chain]
        now_s = monotonic_s()
        for link in self._joined():
            link.pipe(toxic.direction).replace_toxic(now_s, toxic)

    def remove_toxic(self, name: str) -> None:
        """Take a toxic away, from open connections too. ProxyError (404) when there is none of this name."""
        toxic = self.toxic(name)
        self._toxics[toxic.direction].remove(toxic)
        now_s = monotonic_s()
        for link in self._joined():
            link.pipe(toxic.direction).remove_toxic(now_s, name)

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

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.counters: dict[tuple[str, str, str], ProxyCounters] = {}
        """By name, listener and upstream; kept for a while when a proxy is deleted, as counters never go back."""
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
        if len(self.counters) >= COUNTERS_MAX:
            live = {_key(each) for each in self._proxies.values()}
            self.counters = {key: value for key, value in self.counters.items() if key in live}
        return self.counters.setdefault(_key(proxy), ProxyCounters())

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

    async def update(self, name: str, *, listen: str, upstream: str, enabled: bool) -> Proxy:
        """Change a proxy. ProxyError when there is none (404) or it cannot listen (500)."""
        async with self._changing:
            proxy = self.get(name)
            await proxy.update(listen=listen, upstream=upstream, enabled=enabled)
            return proxy

    async def remove(self, name: str) -> None:
        """Stop and forget a proxy. ProxyError (404) when there is none."""
        async with self._changing:
            self.get(name).stop()
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

    async def _add(self, settings: ProxySettings) -> Proxy:
        if settings.name not in self._proxies and len(self._proxies) >= PROXIES_MAX:
            raise ProxyError(f"too many proxies: at most {PROXIES_MAX} at once, delete some")
        proxy = Proxy(name=settings.name, listen=settings.listen, upstream=settings.upstream, collection=self)
        if settings.enabled:
            await proxy.start()
        self._proxies[settings.name] = proxy
        return proxy


def _key(proxy: Proxy) -> tuple[str, str, str]:
    return proxy.name, proxy.listen, proxy.upstream


def split_address(address: str) -> tuple[str, str]:
    """Split ``host:port`` or ``[host]:port``. ValueError with the real server's words when it is neither."""
    host, colon, port = address.rpartition(":")
    if not colon or (address.startswith("[") and address.endswith("]")):
        raise ValueError(f"address {address}: missing port in address")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    if ":" in host:
        raise ValueError(f"address {address}: too many colons in address")
    return host, port


async def _resolve(listen: str) -> tuple[str, int]:
    """Return the address to listen at: IPv4 first, as the real server does. ProxyError when it is none.

    An empty address means some free port of 127.0.0.1; the real server would open it to the whole network. With a
    port but no host (``:8080``) every interface is meant, as there.
    """
    if not listen:
        return LOOPBACK, 0
    try:
        host, port_text = split_address(listen)
    except ValueError as error:
        raise ProxyError(str(error)) from None
    try:
        port = int(port_text) if port_text.isdigit() or not port_text else socket.getservbyname(port_text, "tcp")
    except ValueError:
        port = 0
    except OSError:
        raise ProxyError(f"lookup tcp/{port_text}: unknown port") from None
    if port > 65535:
        raise ProxyError(f"address {port_text}: invalid port")
    if not host:
        return EVERY_INTERFACE, port
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise ProxyError(f"lookup {host}: no such host") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    address = found[0][4]
    return str(address[0]), int(address[1])


async def _listener(listen: str) -> socket.socket:
    try:
        host, port = await _resolve(listen)
    except ProxyError as error:
        raise ProxyError(f"listen tcp: {error}", error.status) from None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Both families only for ":8080", where the caller has asked for every interface.
        every_interface = host == EVERY_INTERFACE
        return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=every_interface)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise CannotBindError(f"listen tcp {_address_text((host, port))}: bind: {reason}") from None


def _address_text(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
