"""Each rule of Raft's core by itself: one replica, and what it makes of a message."""

from __future__ import annotations

import json
import random

import pytest

from targets.playback import raft
from targets.playback.raft import RaftNode
from targets.playback.raft_messages import (
    NOTHING,
    Append,
    Appended,
    Entry,
    Vote,
    VoteRequest,
    message_to_json,
)
from targets.playback.raft_step import Persist, Propose, Received, Role, Stored, Tick, Timing

MEMBERS = ("store-1", "store-2", "store-3")


def node_of(name="store-1", *, members=MEMBERS, stored=None, now_s=0.0) -> RaftNode:
    return RaftNode(name, members, timing=Timing(), rng=random.Random(1), stored=stored or Stored(), now_s=now_s)


def elected(stored=None) -> tuple[RaftNode, float]:
    """A leader of three that has just been elected, and the moment."""
    node = node_of(stored=stored)
    term = node.term + 1
    node.step(1.0, Tick())
    node.step(1.0, Received(sender="store-2", message=Vote(term=term, granted=True, pre=True)))
    node.step(1.0, Received(sender="store-2", message=Vote(term=term, granted=True, pre=False)))
    assert node.role is Role.LEADER
    return node, 1.0


def entries(*terms: int) -> tuple[Entry, ...]:
    return tuple(Entry(term=term, command=f'{{"n":{number}}}') for number, term in enumerate(terms, start=1))


def test_one_member_alone_leads_at_once_and_commits_what_it_writes():
    node = node_of(members=("store-1",))

    outputs = node.step(0.0, Tick())
    assert node.leader == "store-1"
    assert outputs.persist == Persist(term=1, vote="store-1", first=1, entries=(Entry(term=1, command=NOTHING),))
    outputs = node.step(0.1, Propose(commands=('{"a":1}', '{"a":2}')))
    assert (outputs.first, outputs.messages, outputs.wake_s) == (2, (), float("inf"))
    assert [index for index, _ in outputs.committed] == [2, 3]
    assert outputs.persist is not None
    assert [entry.command for entry in outputs.persist.entries] == ['{"a":1}', '{"a":2}']


def test_before_it_stands_a_candidate_asks_without_raising_its_term():
    node = node_of()
    assert node.step(0.1, Tick()).messages == ()

    outputs = node.step(1.0, Tick())

    asked = VoteRequest(term=1, last_index=0, last_term=0, pre=True)
    assert outputs.messages == (("store-2", asked), ("store-3", asked))
    assert (outputs.persist, node.term, node.role) == (None, 0, Role.PRE_CANDIDATE)


def test_a_vote_is_on_disk_before_it_is_sent_and_is_given_once_a_term():
    node = node_of()
    request = VoteRequest(term=5, last_index=0, last_term=0, pre=False)

    outputs = node.step(0.1, Received(sender="store-2", message=request))
    assert outputs.persist == Persist(term=5, vote="store-2", first=None, entries=())
    assert outputs.messages == (("store-2", Vote(term=5, granted=True, pre=False)),)

    restarted = node_of(stored=Stored(term=5, vote="store-2"))
    outputs = restarted.step(0.1, Received(sender="store-3", message=request))
    assert outputs.messages == (("store-3", Vote(term=5, granted=False, pre=False)),)
    outputs = restarted.step(0.1, Received(sender="store-2", message=request))
    assert outputs.messages == (("store-2", Vote(term=5, granted=True, pre=False)),)


@pytest.mark.parametrize(
    "message",
    [
        Append(term=5, previous_index=0, previous_term=0, entries=(), commit=0),
        Appended(term=5, previous_index=0, matched=None, hint=0),
        Vote(term=5, granted=False, pre=True),
        VoteRequest(term=5, last_index=0, last_term=0, pre=False),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_higher_term_is_on_disk_before_it_is_answered(message):
    node = node_of(stored=Stored(term=3, vote="store-1", entries=entries(1)))

    outputs = node.step(0.1, Received(sender="store-2", message=message))

    assert outputs.persist == Persist(term=5, vote=None, first=None, entries=())
    assert node.role is Role.FOLLOWER


def test_a_vote_in_a_term_that_was_known_already_is_on_disk_too():
    node = node_of(stored=Stored(term=5))
    request = VoteRequest(term=5, last_index=0, last_term=0, pre=False)

    outputs = node.step(0.1, Received(sender="store-2", message=request))

    assert outputs.persist == Persist(term=5, vote="store-2", first=None, entries=())


@pytest.mark.parametrize("pre", [True, False])
@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"), [(2, 2, True), (2, 9, True), (3, 1, True), (2, 1, False), (1, 9, False)]
)
def test_only_a_log_as_good_as_ours_gets_our_vote(pre, last_term, last_index, granted):
    node = node_of(stored=Stored(term=3, entries=entries(1, 2)))
    request = VoteRequest(term=4, last_index=last_index, last_term=last_term, pre=pre)

    ((_, vote),) = node.step(0.1, Received(sender="store-2", message=request)).messages

    assert isinstance(vote, Vote)
    assert vote.granted is granted


@pytest.mark.parametrize("pre", [True, False])
def test_who_hears_of_a_leader_gives_no_vote_away(pre):
    node = node_of()
    heartbeat = Append(term=1, previous_index=0, previous_term=0, entries=(), commit=0)
    node.step(0.1, Received(sender="store-2", message=heartbeat))
    request = VoteRequest(term=9, last_index=9, last_term=9, pre=pre)

    ((_, vote),) = node.step(0.5, Received(sender="store-3", message=request)).messages
    assert vote == Vote(term=1, granted=False, pre=pre)
    ((_, vote),) = node.step(0.7, Received(sender="store-3", message=request)).messages
    assert vote == Vote(term=9, granted=True, pre=pre)


def test_entries_of_an_older_term_are_not_committed_by_counting():
    """Figure 8 of the paper: they could still be replaced; with an entry of the own term on top they are safe."""
    node, now_s = elected(Stored(term=1, entries=entries(1, 1)))

    old = Appended(term=2, previous_index=2, matched=2, hint=0)
    assert node.step(now_s, Received(sender="store-2", message=old)).committed == ()
    own = Appended(term=2, previous_index=2, matched=3, hint=0)
    outputs = node.step(now_s, Received(sender="store-2", message=own))
    assert [index for index, _ in outputs.committed] == [1, 2, 3]


def test_a_conflicting_tail_is_replaced_and_what_agrees_is_kept():
    node = node_of(stored=Stored(term=3, entries=entries(1, 1, 2, 2)))
    told = Append(
        term=4, previous_index=1, previous_term=1, entries=(*entries(1, 1)[1:], Entry(term=4, command="{}")), commit=2
    )

    outputs = node.step(0.1, Received(sender="store-2", message=told))

    assert outputs.persist == Persist(term=4, vote=None, first=3, entries=(Entry(term=4, command="{}"),))
    assert [index for index, _ in outputs.committed] == [1, 2]
    assert outputs.messages == (("store-2", Appended(term=4, previous_index=1, matched=3, hint=4)),)
    late = Append(term=4, previous_index=0, previous_term=0, entries=entries(1), commit=1)
    outputs = node.step(0.1, Received(sender="store-2", message=late))
    assert (outputs.persist, node.last_index, node.commit) == (None, 3, 2), "an old message takes nothing back"


def test_what_the_leader_has_committed_is_committed_here_only_as_far_as_the_logs_are_known_to_agree():
    node = node_of(stored=Stored(term=3, entries=entries(1, 1, 2)))
    heartbeat = Append(term=4, previous_index=1, previous_term=1, entries=(), commit=3)

    outputs = node.step(0.1, Received(sender="store-2", message=heartbeat))

    assert [index for index, _ in outputs.committed] == [1]
    assert outputs.messages == (("store-2", Appended(term=4, previous_index=1, matched=1, hint=3)),)


def test_a_gap_is_refused_with_a_hint_that_skips_whole_terms():
    node = node_of(stored=Stored(term=3, entries=entries(1, 2, 2, 2)))

    def hint(previous_index, previous_term):
        told = Append(term=4, previous_index=previous_index, previous_term=previous_term, entries=(), commit=0)
        ((_, answer),) = node.step(0.1, Received(sender="store-2", message=told)).messages
        assert isinstance(answer, Appended)
        assert answer.matched is None
        return answer.hint

    assert hint(9, 4) == 4
    assert hint(4, 3) == 1


def test_a_leader_of_an_earlier_term_is_told_the_present_one():
    node = node_of(stored=Stored(term=7))
    told = Append(term=6, previous_index=0, previous_term=0, entries=entries(6), commit=1)

    outputs = node.step(0.1, Received(sender="store-2", message=told))

    assert outputs.messages == (("store-2", Appended(term=7, previous_index=0, matched=None, hint=0)),)
    assert (node.last_index, node.commit, node.leader) == (0, 0, None)
    leader, now_s = elected()
    leader.step(now_s, Received(sender="store-2", message=outputs.messages[0][1]))
    assert (leader.role, leader.term) == (Role.FOLLOWER, 7)


def test_one_append_is_under_way_to_a_member_at_a_time_until_the_next_heartbeat():
    node, now_s = elected()
    assert node.step(now_s + 0.01, Propose(commands=("{}",))).messages == ()

    outputs = node.step(now_s + 0.1, Tick())
    assert [(to, len(message.entries)) for to, message in outputs.messages] == [("store-2", 2), ("store-3", 2)]
    answer = Appended(term=1, previous_index=0, matched=2, hint=0)
    outputs = node.step(now_s + 0.11, Received(sender="store-2", message=answer))
    assert [index for index, _ in outputs.committed] == [1, 2]
    ((to, message),) = outputs.messages
    assert (to, message.commit, message.entries) == ("store-2", 2, ()), "the commit is told without delay"


def test_messages_of_strangers_are_not_listened_to():
    node = node_of()
    outputs = node.step(
        0.1, Received(sender="store-9", message=VoteRequest(term=9, last_index=0, last_term=0, pre=False))
    )
    assert (outputs.messages, outputs.persist, node.term) == ((), None, 0)


def test_a_full_log_takes_no_more(monkeypatch):
    node, now_s = elected()
    monkeypatch.setattr(raft, "LOG_ENTRIES_MAX", 3)

    assert node.step(now_s, Propose(commands=("{}", "{}", "{}"))).first is None
    assert node.step(now_s, Propose(commands=("{}", "{}"))).first == 2
    assert node.step(now_s, Propose(commands=("{}",))).first is None


def test_impossible_beginnings_are_refused():
    with pytest.raises(ValueError, match="'store-4' is one of them"):
        node_of("store-4")
    with pytest.raises(ValueError, match="all different"):
        node_of(members=("store-1", "store-1"))
    with pytest.raises(ValueError, match="5 entries were applied, but the log has only 1"):
        node_of(stored=Stored(term=1, entries=entries(1), applied=5))
    with pytest.raises(ValueError, match="at least three heartbeats"):
        Timing(heartbeat_s=0.2, election_s=0.5)


def test_the_largest_message_fits_into_a_request():
    node, now_s = elected()
    worst = json.dumps({"v": '"' * 4000})
    node.step(now_s, Propose(commands=(worst,) * 20))
    outputs = node.step(now_s + 0.1, Tick())

    for _, message in outputs.messages:
        assert len(message.entries) > 1
        assert len(json.dumps(message_to_json(message))) < 60 * 1024
