"""An ordinary locustfile that knows nothing of chaos: every request it makes becomes a sample."""

from __future__ import annotations

from locust import HttpUser, constant, task


class Browser(HttpUser):
    """Opens the page again and again."""

    wait_time = constant(0.1)

    @task
    def open_page(self) -> None:
        """Open the page; more than half a second is too slow for anybody."""
        self.client.get("/", timeout=0.5)
