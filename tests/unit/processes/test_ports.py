import os
import random
import socket
import subprocess
import sys

import pytest

from chaos.errors import EnvironmentFailure
from chaos.processes.ports import BLOCK_PORTS, FIRST_PORT, LAST_PORT, PortAllocator


@pytest.fixture
def allocator():
    allocator = PortAllocator(rng=random.Random(1))
    yield allocator
    allocator.close()


def test_free_ports_are_different_and_below_those_of_outgoing_connections(allocator):
    ports = [allocator.free() for _ in range(BLOCK_PORTS + 50)]
    assert len(set(ports)) == len(ports)
    assert all(FIRST_PORT <= port <= LAST_PORT for port in ports)


def test_a_port_in_use_is_passed_over(allocator):
    first = allocator.free()
    with socket.create_server(("127.0.0.1", first + 1)):
        assert allocator.free() == first + 2


def test_two_runs_never_get_the_same_port_even_with_the_same_luck(allocator):
    other = PortAllocator(rng=random.Random(1))
    mine = {allocator.free() for _ in range(50)}
    theirs = {other.free() for _ in range(50)}
    other.close()
    assert not mine & theirs


def test_a_block_is_free_again_when_its_run_was_killed(allocator):
    program = (
        "import random, sys; from chaos.processes.ports import PortAllocator\n"
        "a = PortAllocator(rng=random.Random(1)); print(a.free(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        port = int(run.stdout.readline())
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


def test_when_all_is_taken_the_error_says_so(allocator):
    def take_all():
        while True:
            allocator.free()

    with pytest.raises(EnvironmentFailure, match="no free port is left"):
        take_all()
