"""The isolation layer's parts for aiohttp; imported by name, so that the rest can be used without aiohttp.

For a server::

    app = web.Application(middlewares=[deadline_middleware])
    app.router.add_get("/isolation", isolation_handler(isolation))

For its calls to other services: ``ServiceClient``, which reads whole answers and says whose fault a bad one is.
"""

from chaos.resilience.web.server import Handler, deadline_middleware, isolation_handler
from chaos.resilience.web.services import Rejected, Reply, ServiceClient, ServiceFailed

__all__ = [
    "Handler",
    "Rejected",
    "Reply",
    "ServiceClient",
    "ServiceFailed",
    "deadline_middleware",
    "isolation_handler",
]
