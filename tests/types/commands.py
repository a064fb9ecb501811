"""What a type checker sees of commands: checked by mypy, strictly; each ``ignore`` is a mistake that it must find."""

from __future__ import annotations

import random
from typing import assert_type

from chaos.resilience import Answer, Collapser, Isolation, Replicas, Retry, RetrySettings

isolation = Isolation(rng=random.Random(1))


async def price(title: str, *, currency: str = "EUR") -> float:
    return 9.99


def last_known(cause: Exception, title: str, *, currency: str = "EUR") -> float:
    return 9.49


async def from_elsewhere(cause: Exception, title: str, *, currency: str = "EUR") -> float:
    return 9.89


def in_words(cause: Exception, title: str, *, currency: str = "EUR") -> str:
    return "nine"


def key(title: str, *, currency: str = "EUR") -> str:
    return f"{title}/{currency}"


command = isolation.command("price", price, fallback=[from_elsewhere, last_known], cache_key=key)


@isolation.command("title")
async def title(number: int) -> str:
    return f"title-{number}"


@isolation.command("stock", fallback=lambda cause, number: 0)
async def stock(number: int) -> int:
    return number


class Catalogue:
    @isolation.command("name")
    async def name(self, number: int) -> str:
        return f"title-{number}"


async def results_keep_their_types() -> None:
    assert_type(await command("title-0001", currency="USD"), float)
    assert_type(await command.execute("title-0001"), Answer[float])
    assert_type((await command.execute("title-0001")).value, float)
    assert_type(await title(7), str)
    assert_type(await stock(7), int)
    assert_type(await Catalogue().name(7), str)
    assert_type(await Catalogue().name.execute(7), Answer[str])


async def so_do_those_of_the_other_parts(addresses: list[str]) -> None:
    async def fetch(address: str) -> bytes:
        return address.encode()

    async def batch(titles: list[str]) -> list[float | Exception]:
        return [1.0 for _ in titles]

    replicas = Replicas("catalogue", addresses, isolation=isolation)
    assert_type(await replicas.call(fetch), bytes)
    retry = Retry(price, settings=RetrySettings(), rng=isolation.rng)
    assert_type(await retry("title-0001"), float)
    collapser = Collapser("prices", batch)
    assert_type(await collapser("title-0001"), float)


async def wrong_calls_are_found() -> None:
    await command(7)  # type: ignore[arg-type]
    await command("title-0001", 9)  # type: ignore[call-arg, arg-type]
    await title("seven")  # type: ignore[arg-type]
    await Catalogue().name()  # type: ignore[call-arg]
    isolation.command("words", price, fallback=in_words)  # type: ignore[arg-type]
