"""The choice of an OCA."""

import random

from targets.playback.client_choice import OcaChoice
from targets.playback.client_protocol import Oca

OCAS = [Oca(id=f"oca-{n}", address=f"127.0.0.1:{7000 + n}", isp="alpha" if n < 2 else "beta") for n in range(5)]


def choice(seed=1):
    return OcaChoice(OCAS, tolerance_s=0.02, rng=random.Random(seed))


def walk(one):
    order = [one.current.id]
    while one.leave():
        order.append(one.current.id)
    return order


def test_unmeasured_it_goes_down_the_backends_list_other_isps_first():
    assert walk(choice()) == ["oca-0", "oca-2", "oca-1", "oca-3", "oca-4"]


def test_who_did_not_answer_comes_last_but_is_not_forgotten():
    one = choice()
    one.rank([None, 0.004, None, 0.3, 0.1])
    order = walk(one)
    assert order[:3] == ["oca-1", "oca-4", "oca-3"]
    assert set(order[3:]) == {"oca-0", "oca-2"}


def test_differences_within_the_tolerance_do_not_count():
    assert {pick(seed, [0.015, 0.001, 0.001, 0.001, 0.001]) for seed in range(20)} == {"oca-0", "oca-1"}


def pick(seed, latencies_s):
    one = choice(seed)
    one.rank(latencies_s)
    return one.current.id


def test_a_nearer_isp_does_not_outweigh_a_slower_answer():
    assert pick(1, [0.2, 0.2, 0.3, 0.01, 0.3]) == "oca-3"


def test_who_has_failed_before_comes_after_those_that_have_not():
    one = choice()
    one.leave()
    one.rank([0.001] * 5)
    assert one.current.id == "oca-1"
    assert walk(one)[-1] == "oca-0"


def test_when_nobody_answers_everybody_is_tried_again():
    one = choice()
    one.rank([None] * 5)
    assert len(walk(one)) == 5


def test_starting_over_is_the_backends_order():
    one = choice()
    walk(one)
    one.start_over()
    assert one.current.id == "oca-0"
