"""Commands the proxies: the asynchronous side of toxiproxy-python, for the real server and the embedded one alike.

toxiproxy-python is synchronous, keeps the server's address in a class attribute, and takes only the statuses 400, 404
and 409 for failures. So this is the only module that uses it: every request runs in a worker thread under one lock
that also sets the address, has a time limit, and has its answer checked. Whatever goes wrong becomes an
``EnvironmentFailure`` that says what to do.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar, cast
from urllib.parse import quote

import requests
from toxiproxy.api import APIConsumer
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
from toxiproxy.proxy import Proxy
from toxiproxy.toxic import Toxic

from chaos.errors import EnvironmentFailure
from chaos.faults.base import ToxicCount, ToxicSpec, Traffic
from chaos.proxy.token import VARIABLE, headers

_T = TypeVar("_T")
_ADDRESS_LOCK = threading.Lock()
"""Held during every request of this process, as toxiproxy-python has one address for all."""
_NO_HTTP_PROXY = {"http": None, "https": None, "all": None}
"""The server is on this machine: a web proxy set in the environment must not come between."""
_METRIC = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_RECEIVED = "toxiproxy_proxy_received_bytes_total"
_ACCEPTED = "chaos_proxy_accepted_connections_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySpec:
    """A proxy to be made: its name, where it listens and where it leads, both ``host:port``."""

    name: str
    listen: str
    upstream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """Which proxy server answers."""

    version: str
    """As the server says; a real server built by ``go install`` says ``git``."""
    embedded: bool
    """Whether it is the framework's embedded proxy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """For how long toxics last when nobody renews them, and who would."""

    owner: str
    ttl_s: float


class _Refused(Exception):  # noqa: N818 - inner signal, read as a sentence
    """The server's answer is not the wanted one. ``status`` is its HTTP status, 0 when it is not known."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class ProxyControl:
    """Commands one proxy server. All methods raise ``EnvironmentFailure`` when the server does not do as told.

    ``timeout_s`` limits every single request. Requests are carried out one after the other; one that was cancelled
    while it was on its way may still take effect, and what is asked later comes after it. ``token`` is for an embedded
    server that asks for one.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float = 5.0, token: str = "") -> None:
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._headers = headers(token)

    @property
    def url(self) -> str:
        """Where the server's API is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def version(self) -> str:
        """Return the version that the server gives; EnvironmentFailure when it does not answer as Toxiproxy does."""
        return (await self.identity()).version

    async def identity(self) -> ServerIdentity:
        """Return which server this is; EnvironmentFailure when it does not answer as Toxiproxy does."""

        def ask() -> ServerIdentity:
            answer = self._get("/version")
            if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
                raise _Refused(f"its /version is {_shorten(json.dumps(answer))}, not Toxiproxy's", 0)
            return ServerIdentity(version=answer["version"], embedded=answer.get("server") == "chaos embedded")

        return await self._do("ask for its version", ask)

    async def create_all(self, specs: Sequence[ProxySpec]) -> Mapping[str, str]:
        """Make all these proxies by one ``/populate`` request; return where each listens (for a spec with port 0).

        EnvironmentFailure when a name is taken on the server, or a proxy cannot listen (its port is taken); in that
        case none of these proxies is left behind.
        """
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise EnvironmentFailure(f"two proxies of the same name are wanted: {', '.join(twice)}")

        def create() -> Mapping[str, str]:
            # /populate would silently replace a proxy of the same name: on a server that others use it is not ours.
            if taken := sorted(set(names) & set(self._proxies())):
                raise _Refused(
                    f"there are proxies named {', '.join(map(repr, taken))} already. Another run uses this server, "
                    f"or one has left them; delete them with: "
                    f"{' ; '.join(f'curl -X DELETE {self.url}{_path(name)}' for name in taken)}",
                    0,
                )
            body = [{"name": spec.name, "listen": spec.listen, "upstream": spec.upstream} for spec in specs]
            try:
                return self._populated(specs, self._post("/populate", body))
            except BaseException:
                # A server stops at the first proxy that cannot be made, and keeps those before it.
                for name in names:
                    with suppress(_Refused, requests.RequestException):  # the first failure is the one to tell
                        self._delete(_path(name))
                raise

        return await self._do(f"make {len(specs)} proxies", create)

    async def delete_all(self, names: Sequence[str]) -> None:
        """Delete these proxies; those that are gone already are no matter. All are tried before a failure is raised."""

        def delete() -> None:
            failures: list[str] = []
            for name in names:
                try:
                    self._delete(_path(name))
                except _Refused as refused:
                    failures.append(f"{name}: {refused.text}")
            if failures:
                raise _Refused("; ".join(failures), 0)

        await self._do(f"delete {len(names)} proxies", delete)

    async def add_toxic(self, edge: str, toxic: ToxicSpec, *, lease: Lease | None = None) -> None:
        """Add a toxic to a proxy; when the same toxic is there already, nothing happens.

        With a ``lease`` it goes by itself unless ``renew`` is called in time; the embedded server alone knows leases.
        """
        body: dict[str, object] = {
            "name": toxic.name,
            "type": toxic.type,
            "stream": str(toxic.stream),
            "toxicity": toxic.toxicity,
            "attributes": dict(toxic.attributes),
        }
        if lease is not None:
            body |= {"owner": lease.owner, "ttl_ms": round(lease.ttl_s * 1000)}

        def add() -> None:
            try:
                answer = self._post(f"{_path(edge)}/toxics", body)
            except _Refused as refused:
                if refused.status != 409:
                    raise
                answer = self._get(f"{_path(edge)}/toxics/{quote(toxic.name, safe='')}")
            there = Toxic(**_record(answer))
            given = there.attributes if isinstance(there.attributes, dict) else {}
            if (there.type, there.stream) != (toxic.type, str(toxic.stream)) or any(
                given.get(name) != value for name, value in toxic.attributes.items()
            ):
                raise _Refused(f"there is a toxic of this name with other settings: {json.dumps(answer)}", 409)

        await self._do(f"add the toxic {toxic.name!r} ({toxic.type}) to the proxy {edge!r}", add)

    async def renew(self, lease: Lease) -> None:
        """Let all toxics of this owner last anew."""
        body = {"owner": lease.owner, "ttl_ms": round(lease.ttl_s * 1000)}

        def renew() -> None:
            self._post("/renew", body)

        await self._do("renew the leases of its toxics", renew)

    async def remove_toxic(self, edge: str, toxic_name: str) -> None:
        """Remove a toxic; nothing happens when it, or its proxy, is gone already."""
        path = f"{_path(edge)}/toxics/{quote(toxic_name, safe='')}"
        await self._do(f"remove the toxic {toxic_name!r} from the proxy {edge!r}", lambda: self._delete(path))

    async def set_enabled(self, edge: str, *, enabled: bool) -> None:
        """Close a proxy's listener and cut its connections, or let it listen again."""

        def switch() -> None:
            there = Proxy(**_record(self._post(_path(edge), {"enabled": enabled})))
            if there.enabled is not enabled:
                raise _Refused(f"it answers that the proxy is {'enabled' if there.enabled else 'disabled'}", 0)

        await self._do(f"{'enable' if enabled else 'disable'} the proxy {edge!r}", switch)

    async def toxics(self) -> Mapping[str, tuple[str, ...]]:
        """Return the names of the toxics on every proxy."""

        def ask() -> Mapping[str, tuple[str, ...]]:
            return {
                name: tuple(str(_record(toxic)["name"]) for toxic in cast("list[object]", proxy["toxics"]))
                for name, proxy in self._proxies().items()
            }

        return await self._do("ask for the toxics", ask)

    async def enabled(self) -> Mapping[str, bool]:
        """Return for every proxy whether it is enabled."""

        def ask() -> Mapping[str, bool]:
            return {name: bool(Proxy(**proxy).enabled) for name, proxy in self._proxies().items()}

        return await self._do("ask for the proxies", ask)

    async def traffic(self) -> Mapping[str, Traffic]:
        """Return the bytes that came into every proxy, both ways together, and the connections it accepted.

        The embedded server counts as things happen. The real one counts the bytes of a connection only when that
        connection has ended (so a kept-alive connection shows late), and does not count connections: there
        ``connections`` is 0 and means "not known". A real server must run with ``-proxy-metrics``.
        """

        def ask() -> Mapping[str, Traffic]:
            names = list(self._proxies())
            text = self._ask(lambda limits: APIConsumer.get("/metrics", **limits)).text
            counted: dict[tuple[str, str], int] = {}
            for metric, proxy, value in _metrics(text):
                counted[metric, proxy] = counted.get((metric, proxy), 0) + value
            return {
                name: Traffic(connections=counted.get((_ACCEPTED, name), 0), bytes=counted.get((_RECEIVED, name), 0))
                for name in names
            }

        return await self._do("ask for the traffic (a real server needs -proxy-metrics for that)", ask)

    async def toxic_counts(self, toxic_name: str) -> Mapping[str, ToxicCount]:
        """Return what the toxic of this name has counted on each proxy that has it; only the embedded server does."""

        def ask() -> Mapping[str, ToxicCount]:
            receipts = _record(self._get("/receipts"))
            found: dict[str, ToxicCount] = {}
            for name, of_proxy in receipts.items():
                receipt = _record(of_proxy).get(toxic_name)
                if receipt is not None:
                    counted = {what: int(str(_record(receipt)[what])) for what in ("connections", "requests", "bytes")}
                    found[name] = ToxicCount(**counted)
            return found

        return await self._do("ask for the receipts of its toxics", ask)

    def _populated(self, specs: Sequence[ProxySpec], answer: object) -> Mapping[str, str]:
        made = {
            str(proxy["name"]): proxy for proxy in map(_record, cast("list[object]", _record(answer)["proxies"] or []))
        }
        for spec in specs:
            proxy = made.get(spec.name)
            if proxy is None or not proxy["enabled"] or proxy["upstream"] != spec.upstream:
                raise _Refused(f"it did not make the proxy {spec.name!r}, but {_shorten(json.dumps(proxy))}", 0)
        return {spec.name: str(made[spec.name]["listen"]) for spec in specs}

    def _proxies(self) -> Mapping[str, Mapping[str, object]]:
        return {name: _record(proxy) for name, proxy in _record(self._get("/proxies")).items()}

    def _get(self, path: str) -> object:
        return _json(self._ask(lambda limits: APIConsumer.get(path, **limits)))

    def _post(self, path: str, body: object) -> object:
        return _json(self._ask(lambda limits: APIConsumer.post(path, json=body, **limits)))

    def _delete(self, path: str) -> None:
        try:
            self._ask(lambda limits: APIConsumer.delete(path, **limits))
        except _Refused as refused:
            if refused.status != 404:
                raise

    def _ask(self, request: Callable[[Mapping[str, object]], requests.Response]) -> requests.Response:
        """Make one request under the lock; ``_Refused`` for every answer that is not a success."""
        with self._addressed():
            try:
                response = request(
                    {
                        "timeout": self._timeout_s,
                        "proxies": _NO_HTTP_PROXY,
                        "allow_redirects": False,
                        "headers": self._headers,
                    }
                )
            except ProxyExists as error:
                raise _Refused(_error_text(error.args[0]), 409) from None
            except NotFound as error:
                raise _Refused(_error_text(error.args[0]), 404) from None
            except InvalidToxic as error:
                raise _Refused(_error_text(error.args[0]), 400) from None
        if response.status_code == 401:
            raise _Refused(f"it asks for a token; set the variable {VARIABLE} to the one it was started with", 401)
        if not 200 <= response.status_code < 300:
            raise _Refused(f"{_error_text(response.content)} (status {response.status_code})", response.status_code)
        return response

    @contextmanager
    def _addressed(self) -> Iterator[None]:
        """Hold toxiproxy-python's one address for one request, and put it back."""
        if not _ADDRESS_LOCK.acquire(timeout=10 * self._timeout_s):
            raise requests.Timeout("earlier requests did not end")
        before = APIConsumer.host, APIConsumer.port
        APIConsumer.host = f"[{self._host}]" if ":" in self._host else self._host
        APIConsumer.port = self._port
        try:
            yield
        finally:
            APIConsumer.host, APIConsumer.port = before
            _ADDRESS_LOCK.release()

    async def _do(self, what: str, work: Callable[[], _T]) -> _T:
        """Do blocking work in a thread; turn every failure into an EnvironmentFailure."""
        try:
            return await asyncio.to_thread(work)
        except _Refused as refused:
            raise EnvironmentFailure(f"the proxy server at {self.url} would not {what}: {refused.text}") from refused
        except requests.Timeout as error:
            raise EnvironmentFailure(
                f"the proxy server at {self.url} did not answer within {self._timeout_s:g} s when told to {what}; "
                f"is it frozen, or is the machine overloaded?"
            ) from error
        except requests.ConnectionError as error:
            raise EnvironmentFailure(
                f"no proxy server answers at {self.url} ({_reason(error)}); "
                f"start one there (toxiproxy-server, or python -m chaos.proxy.embedded), or check the address"
            ) from error
        except (requests.RequestException, KeyError, TypeError, ValueError) as error:
            raise EnvironmentFailure(
                f"what answers at {self.url} is not Toxiproxy (told to {what}, its answer made no sense: {error!r}); "
                f"check the address"
            ) from error


def _path(proxy: str) -> str:
    return f"/proxies/{quote(proxy, safe='')}"


def _json(response: requests.Response) -> object:
    return response.json()


def _record(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"an object was expected, not {_shorten(repr(value))}")
    return value


def _error_text(body: bytes | str) -> str:
    """Return the words of a failed answer, which are in the key ``error`` when the server is Toxiproxy."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return _shorten(text.strip()) or "it gave no reason"


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."


def _reason(error: BaseException) -> str:
    """Return the operating system's words from within requests' layers, like ``connection refused``."""
    inner: BaseException | None = error
    for _ in range(10):
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        args = getattr(inner, "args", ())
        following = getattr(inner, "reason", None) or (args[0] if args and isinstance(args[0], BaseException) else None)
        if following is None or following is inner:
            break
        inner = following if isinstance(following, BaseException) else None
    match = re.search(r"\[Errno \d+\] ([^'\")]+)", str(error))
    return match.group(1).lower() if match else type(error).__name__


def _metrics(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield (metric, proxy, value) for each line of Prometheus' text format that has a label ``proxy``."""
    for line in text.splitlines():
        if (match := _METRIC.match(line)) is None:
            continue
        labels = {key: value.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")
                  for key, value in _LABEL.findall(match["labels"])}  # fmt: skip
        if "proxy" in labels:
            yield match["name"], labels["proxy"], int(float(match["value"]))
