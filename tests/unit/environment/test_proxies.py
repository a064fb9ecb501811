import pytest

from chaos.environment.proxies import parse_url
from chaos.errors import UsageError


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://127.0.0.1:8475", ("127.0.0.1", 8475)),
        ("http://localhost", ("localhost", 8474)),
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("http://[::1]:1", ("::1", 1)),
    ],
)
def test_the_url_of_a_toxiproxy_is_understood(url, where):
    assert parse_url(url) == where


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:port", "not a URL"),
        ("https://127.0.0.1", "not a URL of a Toxiproxy"),
        ("http://", "not a URL of a Toxiproxy"),
        ("http://toxiproxy.example:8474", "on another machine cannot reach"),
        ("http://10.0.0.7:8474", "on another machine cannot reach"),
    ],
)
def test_a_url_that_cannot_work_is_the_users_mistake(url, said):
    with pytest.raises(UsageError, match=said):
        parse_url(url)
