"""The isolation layer's parts for aiohttp; imported by name, so that the rest can be used without aiohttp.

For a server::

    first = [blame_middleware(), group_middleware, deadline_middleware]
    app = web.Application(middlewares=[*first, request_context_middleware])
    app.router.add_get("/isolation", isolation_handler(isolation))

For its calls to other services: ``isolate`` around every request of a ``ClientSession``; or ``ServiceClient``, which
reads whole answers and says whose fault a bad one is. Load shedding, the Hystrix stream and Prometheus' metrics are in
``chaos.resilience.web.shedding``, ``.stream`` and ``.prometheus``.
"""

from chaos.resilience.web.server import (
    Handler,
    blame_middleware,
    deadline_middleware,
    group_middleware,
    isolation_handler,
    request_context_middleware,
)
from chaos.resilience.web.services import Rejected, Reply, ServiceClient, ServiceFailed, ServiceOverloaded
from chaos.resilience.web.session import isolate

__all__ = [
    "Handler",
    "Rejected",
    "Reply",
    "ServiceClient",
    "ServiceFailed",
    "ServiceOverloaded",
    "blame_middleware",
    "deadline_middleware",
    "group_middleware",
    "isolate",
    "isolation_handler",
    "request_context_middleware",
]
