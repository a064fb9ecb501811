"""The audience of the playback target, under Locust: viewers, and those who look around, search, sign up and log in.

Plain Locust, with its web interface (``chaos up targets/playback`` starts the target and shows the ELB's address)::

    locust -f locustfiles/playback.py --host http://127.0.0.1:PORT --plays-per-second 20

Under ``chaos run`` the order comes in the variable CHAOS_LOAD, and every outcome goes to the runner. People come on
open schedules, whatever became of those before them; Locust's number of users has no meaning here, one will do.

An experiment may let one account play more often than others and count its plays apart, as ``test_play``, and change
how many visits of each kind come for each play (see `playback_mix` for the names and what holds otherwise)::

    load: {settings: {test_account: subscriber-00042, test_account_share: 0.06, signup_per_play: 0}}
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from chaos import clock
from chaos.load.arrivals import arrivals
from chaos.load.order import LoadOrder
from chaos.load.station import Station, listen, order_for, part_of, run_or_die, when_settled
from chaos.topology.model import CalledInstance, InstanceConfig

# The target's own code stands beside this folder; Locust may have been started from anywhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from locustfiles.playback_crowd import Crowd
from locustfiles.playback_mix import PER_PLAY, shares_of
from locustfiles.playback_world import World

PART_MESSAGE = "playback-part"

GOODBYE_S = 0.5
"""At least so long is there for reports of the sessions that the end of the load cuts off."""


class Audience(User):
    """Stands for the audience in Locust's web interface; the people themselves are started by dispatchers.

    It is no FastHttpUser, although they use the same library: making one loads the machine's certificates, which stops
    the whole process for as long as half a second, in the middle of the arrivals.
    """

    @task
    def watch(self) -> None:
        """Do nothing, for long."""
        gevent.sleep(3600.0)


# ---- under the runner


def play_for_runner(environment: Environment, order: LoadOrder, station: Station) -> None:
    """Let people come by the runner's order, from its start moment until it says that the load is to end."""
    fire, record = environment.events.request.fire, station.recorder.record
    world = World(fire, order.client, record, seed=order.seed, settings=order.settings, group_of=order.group_of)
    crowd = Crowd(world, shares_of(order.settings))
    start_s = station.wait_for_start()
    crowd.start(
        run_or_die,
        start_s=start_s,
        plays=order.arrivals(part_of(environment)),
        plays_per_s=order.rate_per_s,
        duration_s=order.duration_s,
        part=part_of(environment),
        parts=order.processes,
    )
    finish_by_s = station.wait_for_finish()
    crowd.stop()
    crowd.settle(finish_by_s)
    crowd.end("no outcome by the end of the run")
    crowd.say_goodbye(max(finish_by_s, clock.monotonic_s() + GOODBYE_S))
    station.done()


# ---- under plain Locust


def add_arguments(parser: LocustArgumentParser) -> None:
    """Add what the runner would tell us otherwise."""
    group = parser.add_argument_group("playback")
    group.add_argument("--plays-per-second", type=float, default=20.0, help="New plays a second, on an open schedule.")
    for kind, share in PER_PLAY.items():
        option = f"--{kind.setting.replace('_', '-')}"
        group.add_argument(option, type=float, default=share, help=f"Visits of kind {kind} for each play; 0: none.")
    group.add_argument("--target-seed", type=int, default=1, help="The seed the target was started with.")
    group.add_argument("--signing-key", default="only-for-experiments", help="The target's setting signing_key.")
    group.add_argument("--video-scale", type=float, default=60.0, help="The target's setting video_scale.")


def discard(*_: object, **__: object) -> None:
    """Record nothing: Locust's own statistics are all that a plain test has."""


class PlainLoad:
    """The crowd of a plain Locust test: from its start to its stop, as often as the web interface is asked to."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._part, self._parts = 0, 1
        self._crowd: Crowd | None = None
        self._options: Any = environment.parsed_options
        listen(environment.events.test_start, self._start)
        listen(environment.events.test_stop, self._stop)
        runner = environment.runner
        if isinstance(runner, WorkerRunner):
            runner.register_message(PART_MESSAGE, self._take_part)

    def _take_part(self, msg: Any, **_: object) -> None:
        self._part, self._parts = msg.data

    def _start(self, **_: object) -> None:
        config = self._config()
        world = World(self._environment.events.request.fire, config, discard, seed=config.seed)
        self._crowd = Crowd(world, shares_of(vars(self._options)))
        self._crowd.start(
            gevent.spawn,
            start_s=clock.monotonic_s() + 0.1,
            plays=arrivals(config.seed, self._options.plays_per_second, part=self._part, parts=self._parts),
            plays_per_s=self._options.plays_per_second,
            part=self._part,
            parts=self._parts,
        )

    def _stop(self, **_: object) -> None:
        if self._crowd is not None:
            self._crowd.end(None)
            self._crowd.say_goodbye(clock.monotonic_s() + GOODBYE_S)

    def _config(self) -> InstanceConfig:
        options = self._options
        elb = urlsplit(self._environment.host or "").netloc
        if not elb:
            raise ValueError("Say where the ELB is: --host http://127.0.0.1:PORT")
        return InstanceConfig(
            service="viewers",
            instance="viewers",
            index=1,
            host="",
            port=0,
            labels={},
            calls={"elb": (CalledInstance(instance="elb-1", address=elb, labels={}),)},
            reached_by={},
            settings={"signing_key": options.signing_key, "video_scale": options.video_scale},
            disabled=(),
            seed=options.target_seed,
            data_dir="",
        )


def share_out(environment: Environment, **_: object) -> None:
    """Tell each worker, as the master of a plain distributed test, which part of the arrivals is its own."""
    runner: Any = environment.runner
    workers = [*runner.clients.ready, *runner.clients.spawning, *runner.clients.running]
    for part, worker in enumerate(workers):
        runner.send_message(PART_MESSAGE, [part, len(workers)], client_id=worker.id)


def on_init(environment: Environment, **_: object) -> None:
    """Find out who asked for the load, and be ready."""
    order = order_for(environment)
    if order is not None:
        station = Station(environment, order)
        when_settled(environment, lambda: play_for_runner(environment, order, station))
    elif isinstance(environment.runner, MasterRunner):
        listen(environment.events.test_start, share_out)
    else:
        PlainLoad(environment)


listen(events.init_command_line_parser, add_arguments)
listen(events.init, on_init)
