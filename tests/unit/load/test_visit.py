"""One visit, against servers that answer, fail, or hang up."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import pytest

from chaos.groups import GROUP_HEADER, Group
from chaos.load.visit import Session, Visit, VisitError
from chaos.samples import SampleOutcome
from tests.unit.load.test_http import Server, answer_once_and_hang_up, answer_twice, hang_up, serving


def visit_of(server: Server, *, number: int = 0, seed: int = 1) -> Visit:
    def group_of(account: str) -> Group | None:
        return Group.EXPERIMENT if account == "one of them" else None

    return Visit(number=number, due_s=0.0, seed=seed, address_of=lambda *_: server.address, group_of=group_of)


def outcome_of(visit: Visit, visiting: Callable[[Visit], None]) -> list[str]:
    """Make the visit; return for each outcome why it failed, or an empty text."""
    said: list[str] = []
    session = Session(visit, visiting, lambda _, why: said.append(why))
    session.run()
    assert session.settled
    session.end(1.0, "no outcome by the end of the run")
    return said


def opening_the_page(visit: Visit) -> None:
    assert visit.request("GET", "/", timeout_s=1.0).body == b"hello"


def refusing(server: Server, connection: socket.socket) -> None:
    server.reads(connection)
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def test_the_requests_of_a_visit_share_a_connection_that_ends_with_it():
    def twice(visit: Visit) -> None:
        opening_the_page(visit)
        opening_the_page(visit)
        assert connection_of(visit).is_open

    with serving(answer_twice) as server:
        visit = visit_of(server)
        assert outcome_of(visit, twice) == [""]
        assert not connection_of(visit).is_open
    assert len(server.requests) == 2


def connection_of(visit: Visit):
    (connection,) = visit._connections.values()
    return connection


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [(refusing, "GET /: status 503"), (hang_up, "GET /: connection closed")],
)
def test_a_bad_answer_or_none_fails_the_visit_in_words(behaviour, said):
    with serving(behaviour) as server:
        assert outcome_of(visit_of(server), opening_the_page) == [said]


def test_a_status_may_be_expected_and_change_the_outcome():
    def ask(visit: Visit) -> None:
        if visit.request("GET", "/", timeout_s=1.0, statuses=(200, 503)).status == 503:
            visit.outcome = SampleOutcome.REFUSED

    with serving(refusing) as server:
        visit = visit_of(server)
        assert outcome_of(visit, ask) == [""]
        assert visit.outcome is SampleOutcome.REFUSED


def test_a_mistake_in_the_function_is_not_hidden_and_its_connections_are_closed():
    def mistaken(visit: Visit) -> None:
        opening_the_page(visit)
        raise KeyError("no such thing")

    said: list[str] = []
    with serving(answer_once_and_hang_up) as server:
        visit = visit_of(server)
        session = Session(visit, mistaken, lambda _, why: said.append(why))
        with pytest.raises(KeyError):
            session.run()
        assert not session.settled
        assert not connection_of(visit).is_open
        session.end(1.0, "error in the load")
        session.end(2.0, "error in the load")
    assert said == ["error in the load"]


def test_a_visit_that_is_dropped_at_the_end_has_no_outcome():
    said: list[str] = []
    with serving() as server:
        session = Session(visit_of(server), opening_the_page, lambda _, why: said.append(why))
        session.end(1.0, None)
    assert said == []


def test_the_requests_of_an_account_say_its_group():
    def come(visit: Visit) -> None:
        visit.come_as("one of them")
        visit.request("GET", "/", timeout_s=1.0, headers={"X-Own": "mine"})

    with serving(answer_once_and_hang_up) as server:
        visit = visit_of(server)
        assert outcome_of(visit, come) == [""]
    assert visit.group is Group.EXPERIMENT
    (request,) = server.requests
    assert f"{GROUP_HEADER}: {Group.EXPERIMENT.value}\r\n".encode() in request
    assert b"X-Own: mine\r\n" in request


def test_a_visit_asks_for_the_address_of_its_service_and_draws_by_seed_and_number():
    asked: list[tuple[str | None, int]] = []
    with serving(answer_once_and_hang_up) as server:

        def address_of(service: str | None, number: int) -> str:
            asked.append((service, number))
            return server.address

        settings: Mapping[str, int] = {"pages": 2}
        visit = Visit(number=7, due_s=0.0, seed=1, address_of=address_of, settings=settings)
        visit.request("GET", "/", timeout_s=1.0, service="shop")
        visit.close()
    assert asked == [("shop", 7)]
    assert visit.settings == {"pages": 2}
    drawn = [
        visit_of(server, number=number, seed=seed).rng.random() for number, seed in ((7, 1), (7, 1), (8, 1), (7, 2))
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_what_goes_wrong_may_be_told_by_the_function_itself():
    def look(visit: Visit) -> None:
        if visit.request("GET", "/", timeout_s=1.0).body != b"goodbye":
            raise VisitError("the page is not the right one")

    with serving(answer_once_and_hang_up) as server:
        assert outcome_of(visit_of(server), look) == ["the page is not the right one"]
