"""Raft's core in simulated clusters: its safety and its liveness in whatever happens."""

from __future__ import annotations

import pytest

from targets.playback.raft_messages import (
    BATCH_ENTRIES_MAX,
)
from targets.playback.raft_step import Propose, Role
from tests.unit.playback.raft_simulation import TIMING, Simulation


def trouble(world: Simulation) -> None:
    """Do something bad, or end something bad."""
    rng = world.rng
    name = rng.choice(world.names)
    machine = world.machines[name]
    match rng.randrange(9):
        case 0 | 1 if machine.node is not None:
            world.kill(name)
        case 0 | 1:
            world.start(name)
        case 2 if machine.node is not None:
            machine.paused = True
            world.after(rng.uniform(0.05, 2.5), lambda: world.resume(name))
        case 3:
            world.isolate(name)
        case 4:
            world.cut.add((name, rng.choice(world.names)))
        case 5:
            world.cut.clear()
        case 6:
            world.loss, world.doubling = rng.choice(((0.0, 0.0), (0.1, 0.2), (0.4, 0.3)))
        case 7:
            world.delay_max_s = rng.choice((0.002, 0.02, 0.2, 0.8))
        case 8:
            world.crash_in_step = rng.choice((0.0, 0.0, 0.003, 0.02))
    for other in world.names:  # whoever was killed is started again sooner or later
        if world.machines[other].node is None and rng.random() < 0.3:
            world.start(other)


def live_through(seed: int, *, size: int) -> Simulation:
    """Ten bad seconds with proposals all the time, then healing; checks all that must hold."""
    world = Simulation(seed, size)
    proposed = 0
    for turn in range(500):
        world.run(0.02)
        if turn % 15 == 14:
            trouble(world)
        proposed += world.propose(f'{{"id":"{turn}"}}')
    world.heal()
    world.run(4.0)

    leader = world.the_leader()
    assert world.propose('{"id":"last"}'), "after healing the leader takes commands"
    world.run(1.0)
    assert world.commands()[-1] == '{"id":"last"}'
    for name in world.names:
        assert world.machines[name].disk.entries == world.machines[leader].disk.entries
        assert world.machines[name].disk.applied == len(world.committed) == world.node(leader).last_index
    applied = world.commands()
    assert len(set(applied)) == len(applied), "what was proposed once is applied once"
    assert set(world.acknowledged) <= set(applied), "an acknowledged command was lost"
    return world


@pytest.mark.parametrize(("size", "seeds"), [(3, 60), (5, 20)])
def test_whatever_happens_no_acknowledged_command_is_lost_and_all_replicas_apply_the_same(size, seeds):
    worlds = [live_through(seed, size=size) for seed in range(seeds)]

    assert sum(len(world.acknowledged) for world in worlds) > 50 * seeds, "the runs do work while they fail"
    assert sum(len(world.leader_of) for world in worlds) > 2 * seeds, "leaders do change"


def test_a_calm_cluster_elects_one_leader_and_keeps_it():
    world = Simulation(1)
    leader = world.the_leader()
    term = world.node(leader).term
    world.run(60.0)

    assert world.leaders() == [leader]
    assert {world.node(name).term for name in world.names} == {term}
    assert {world.node(name).leader for name in world.names} == {leader}


def test_another_leader_is_there_within_two_election_timeouts_mostly_and_four_when_votes_are_split():
    gone_s = []
    for seed in range(40):
        world = Simulation(seed)
        dead = world.the_leader()
        world.run(1.0)
        world.kill(dead)
        began_s = world.now_s
        world.the_leader(every_s=0.01)
        gone_s.append(world.now_s - began_s)
        assert world.propose('{"id":"a"}')
        world.run(0.1)
        assert world.commands() == ['{"id":"a"}']

    gone_s.sort()
    assert gone_s[0] > TIMING.election_s * 0.8
    assert gone_s[35] < TIMING.election_s * 2 + 0.1
    assert gone_s[-1] < TIMING.election_s * 4 + 0.1


@pytest.mark.parametrize("kind", ["paused", "cut off"])
def test_a_follower_that_returns_deposes_nobody(kind):
    world = Simulation(3)
    leader = world.the_leader()
    world.run(1.0)
    term = world.node(leader).term
    away = next(name for name in world.names if name != leader)
    if kind == "paused":
        world.machines[away].paused = True
    else:
        world.isolate(away)
    world.run(5.0)
    world.heal()
    world.run(2.0)

    assert world.leaders() == [leader]
    assert {world.node(name).term for name in world.names} == {term}


def test_a_leader_without_a_majority_steps_down_and_refuses():
    world = Simulation(4)
    leader = world.the_leader()
    world.run(1.0)
    world.isolate(leader)
    assert world.node(leader).role is Role.LEADER
    world.run(TIMING.election_s + 0.05)

    assert world.node(leader).role is not Role.LEADER
    outputs = world.step(leader, Propose(commands=("{}",)))
    assert outputs is not None
    assert outputs.first is None
    world.run(2.0)
    assert len(world.leaders()) == 1, "the other two go on"
    assert world.leaders() != [leader]


def test_a_paused_leader_knows_at_once_that_it_leads_no_more():
    world = Simulation(5)
    leader = world.the_leader()
    world.run(1.0)
    world.machines[leader].paused = True
    world.run(3.0)
    machine = world.machines[leader]
    machine.paused = False
    outputs = world.step(leader, Propose(commands=("{}",)))

    assert outputs is not None
    assert outputs.first is None
    assert world.node(leader).role is not Role.LEADER


def test_a_replica_that_missed_much_catches_up_in_batches():
    world = Simulation(6)
    leader = world.the_leader()
    away = next(name for name in world.names if name != leader)
    world.kill(away)
    for number in range(10):
        world.step(leader, Propose(commands=tuple(f'{{"id":"{number}/{one}"}}' for one in range(BATCH_ENTRIES_MAX))))
        world.run(0.1)
    world.start(away)
    world.run(2.0)

    assert world.machines[away].disk.entries == world.machines[leader].disk.entries
    assert world.machines[away].disk.applied == 10 * BATCH_ENTRIES_MAX + 1
