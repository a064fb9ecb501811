"""Who gets which ports. Every test has ports of its own, so that it takes none from the runs of this machine."""

import os
import random
import socket
import subprocess
import sys

import pytest

from chaos.errors import EnvironmentFailure
from chaos.processes import ports as module
from chaos.processes.ports import PortAllocator
from tests.ports import free_range

BLOCK = 10


@pytest.fixture
def ports() -> range:
    """Four blocks of ports that nobody else has."""
    return free_range(4 * BLOCK)


@pytest.fixture
def settings(ports) -> dict[str, object]:
    """How an allocator of these ports is made; all that are made so share them."""
    return {"ports": ports, "block_ports": BLOCK, "claim_prefix": f"chaos-tests-of-ports-{ports.start}"}


@pytest.fixture
def allocator(settings):
    allocator = PortAllocator(rng=random.Random(1), **settings)
    yield allocator
    allocator.close()


@pytest.mark.parametrize(
    ("outgoing", "last"),
    [
        ("32768\t60999\n", 31_999),  # Linux's own
        ("25000\t60999\n", 24_999),
        ("25001\t60999\n", 24_999),  # only whole blocks
        ("1024\t65535\n", 31_999),  # it would leave none
        ("nonsense", 31_999),
    ],
)
def test_a_run_takes_its_ports_from_below_those_of_outgoing_connections(monkeypatch, tmp_path, outgoing, last):
    file = tmp_path / "ip_local_port_range"
    file.write_text(outgoing)
    monkeypatch.setattr(module, "_EPHEMERAL_RANGE", file)
    assert sorted(PortAllocator()._blocks) == list(range(20_000, last, 200))


def test_free_ports_are_different_and_of_several_blocks(allocator, ports):
    found = [allocator.free() for _ in range(3 * BLOCK + 5)]
    assert len(set(found)) == len(found)
    assert set(found) <= set(ports)


def test_a_port_in_use_is_passed_over(allocator):
    first = allocator.free()
    with socket.create_server(("127.0.0.1", first + 1)):
        assert allocator.free() == first + 2


def test_two_runs_never_get_the_same_port_even_with_the_same_luck(allocator, settings):
    other = PortAllocator(rng=random.Random(1), **settings)
    mine = {allocator.free() for _ in range(BLOCK + 1)}
    theirs = {other.free() for _ in range(BLOCK + 1)}
    other.close()
    assert not mine & theirs


def test_a_block_is_free_again_when_its_run_was_killed(allocator, settings):
    program = (
        "import random, sys; from chaos.processes.ports import PortAllocator\n"
        f"a = PortAllocator(rng=random.Random(1), **{settings!r}); print(a.free(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        port = int(run.stdout.readline())
        other = PortAllocator(rng=random.Random(1), **settings)
        assert abs(other.free() - port) >= BLOCK  # it lives
        other.close()
        run.kill()
    assert allocator.free() == port


def test_a_fixed_port_that_is_taken_names_the_port_its_user_and_its_holder(allocator):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(EnvironmentFailure) as caught:
            allocator.reserve(port, purpose="store-1")
    text = str(caught.value)
    assert f"port {port}, wanted by store-1, is taken by" in text
    assert f"(pid {os.getpid()})" in text


def test_a_fixed_port_is_not_given_out_again(allocator):
    wanted = allocator.free() + 1
    assert allocator.reserve(wanted, purpose="a-1") == wanted
    assert allocator.free() == wanted + 1
    with pytest.raises(EnvironmentFailure, match="used twice"):
        allocator.reserve(wanted, purpose="b-1")


def test_when_all_is_taken_the_error_says_so_and_what_is_given_back_is_there_again(allocator, settings, ports):
    assert sorted(allocator.free() for _ in ports) == list(ports)
    with pytest.raises(EnvironmentFailure, match=f"no free port is left on .* between {ports[0]} and {ports[-1]};"):
        allocator.free()
    with pytest.raises(EnvironmentFailure, match="no free port is left"):
        PortAllocator(**settings).free()
    allocator.close()
    other = PortAllocator(**settings)
    assert other.free() in ports
    other.close()
