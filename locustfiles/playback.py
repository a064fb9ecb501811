"""The viewers of the playback target, under Locust: every arrival is another device that plays one title.

Plain Locust, with its web interface (``chaos up targets/playback`` starts the target and shows the ELB's address)::

    locust -f locustfiles/playback.py --host http://127.0.0.1:PORT --plays-per-second 20

Under ``chaos run`` the order comes in the variable CHAOS_LOAD, and every outcome goes to the runner. Plays arrive on an
open schedule made by one dispatcher in each Locust process; Locust's number of users has no meaning here, one will do.

An experiment may let one account play more often than others and count its plays apart, as ``test_play``:
``load: {settings: {test_account: subscriber-00042, test_account_share: 0.06}}``.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never
from urllib.parse import urlsplit

import gevent
from gevent.event import Event
from locust import User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from chaos import clock
from chaos.load.arrivals import Arrival, arrivals
from chaos.load.dispatcher import Dispatcher, Record
from chaos.load.http import Connection, HttpError
from chaos.load.order import LoadOrder
from chaos.load.station import Station, listen, order_for, part_of, run_or_die, when_settled
from chaos.samples import SampleOutcome
from chaos.topology.model import CalledInstance, InstanceConfig, Scalar

# The target's own code stands beside this folder; Locust may have been started from anywhere.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from targets.playback import client_protocol as client
from targets.playback.client import ClientConfig, PlaybackClient, PlayOrder
from targets.playback.seed_data import SeedData
from targets.playback.validation import Subscriber

REPORT_EVERY_S = 0.7
"""A session whose last report is older than this reports at the dispatcher's next tick: so once a second at least."""

PART_MESSAGE = "playback-part"


class Audience(User):
    """Stands for the audience in Locust's web interface; the viewers themselves are started by the dispatcher.

    It is no FastHttpUser, although viewers use the same library: making one loads the machine's certificates, which
    stops the whole process for as long as half a second, in the middle of the arrivals.
    """

    @task
    def watch(self) -> None:
        """Do nothing, for long."""
        gevent.sleep(3600.0)


class World:
    """What all viewers of this process share: whom to call, who they are, and where their outcomes go."""

    def __init__(
        self,
        environment: Environment,
        config: InstanceConfig,
        record: Record,
        *,
        seed: int,
        settings: Mapping[str, Scalar] | None = None,
    ) -> None:
        settings = settings or {}
        self._count: Any = environment.events.request.fire
        self.record = record
        self.seed = seed  # the run's: who comes and what they watch; the target's, in config, decides who there is
        self.elb = config.calls["elb"][0].address
        self.config = ClientConfig.of(config.settings, config.disabled)
        self._data = SeedData.of(config)
        self._signing_key = str(config.settings["signing_key"])
        _ = self._data.subscribers, self._data.titles  # made now, and not by the first arrival
        self._test_account_share = float(settings.get("test_account_share", 0))
        wanted = settings.get("test_account")
        self.test_account = next((one for one in self._data.subscribers if one.id == wanted), None)
        """The one account whose plays are counted apart, as ``test_play``."""
        if self._test_account_share and self.test_account is None:
            raise ValueError(f"load.settings.test_account is {wanted!r}; it is a subscriber, like subscriber-00042")

    def someone(self, number: int, rng: random.Random) -> Subscriber:
        """Return who comes as the arrival of this number: the test account for its share of them, else any subscriber.

        Its turns come at equal distances. Drawn at random they would leave more plays to the others in one phase than
        in another, and the rules that compare phases would see that as a change.
        """
        share = self._test_account_share
        if self.test_account is not None and math.floor((number + 1) * share) > math.floor(number * share):
            return self.test_account
        subscriber = rng.choice(self._data.subscribers)
        while subscriber is self.test_account:  # its plays are counted apart: here it would be anybody's
            subscriber = rng.choice(self._data.subscribers)
        return subscriber

    def order(self, subscriber: Subscriber, due_s: float, rng: random.Random) -> PlayOrder:
        """Return this subscriber's wish for a random title."""
        return PlayOrder(
            elb=self.elb,
            title=rng.choice(self._data.titles).id,
            token=self._data.token(subscriber, self._signing_key),
            client_ip=self._data.client_ip(subscriber),
            scheduled_s=due_s,
        )

    def count(
        self, kind: str, name: str, began_s: float, *, length: int = 0, error: Exception | str | None = None
    ) -> None:
        """Tell Locust's own statistics of a request that ends now."""
        self._count(
            request_type=kind,
            name=name,
            response_time=(clock.monotonic_s() - began_s) * 1000.0,
            response_length=length,
            response=None,
            exception=error,
            context={},
        )


class Viewer:
    """One device: drives one playback client over connections of its own, and records what it sees.

    A `chaos.load.dispatcher.Session`.
    """

    def __init__(self, world: World, arrival: Arrival, due_s: float, lag_s: float) -> None:
        self.settled = False
        self._world = world
        self._due_s = due_s
        self._lag_s = lag_s
        self._over = False
        self._open: dict[str, Connection] = {}  # by address: those probed, then only the one in use
        rng = random.Random(f"viewer/{world.seed}/{arrival.number}")
        subscriber = world.someone(arrival.number, rng)
        self._play = "test_play" if subscriber is world.test_account else "play"
        self._client = PlaybackClient(world.order(subscriber, due_s, rng), world.config, rng=rng, tell=self._tell)

    def run(self) -> None:
        """Play from the press of the button to the last frame."""
        steps = self._client.run(clock.monotonic_s())
        try:
            request = next(steps)
            while True:
                request = steps.send(self._carry_out(request))
        except StopIteration:
            pass
        finally:
            self._close_all()

    def tick(self, now_s: float) -> None:
        """Report what has been watched, when the client itself has not done so for a while."""
        if now_s - self._client.reported_s >= REPORT_EVERY_S:
            self._client.report(now_s)

    def end(self, now_s: float, reason: str | None) -> None:
        """Cut the session; a play that has not started by now has failed, or is dropped when no reason is given."""
        self._client.report(now_s)
        if not self.settled and reason is not None:
            self._tell(client.Failed(now_s=now_s, reason=reason))
        self._over = True

    # ---- what the client wants done

    def _carry_out(self, request: client.Request) -> client.Answer:
        match request:
            case client.HttpRequest():
                return self._http(request)
            case client.ProbeAll():
                return self._probe(request)
            case client.Wait(until_s=until_s):
                gevent.sleep(max(0.0, until_s - clock.monotonic_s()))
                return client.Woken(now_s=clock.monotonic_s())
            case _:
                assert_never(request)

    def _http(self, request: client.HttpRequest) -> client.Reply:
        began_s = clock.monotonic_s()
        name = "/play" if request.kind is client.RequestKind.PLAY else "/titles/chunk"
        connection = self._connection_to(request.address, fresh=request.fresh)
        try:
            answer = connection.request(
                request.method, request.path, timeout_s=request.timeout_s, headers=request.headers, body=request.body
            )
        except HttpError as error:
            self._world.count(request.method, name, began_s, error=error)
            return client.Reply(now_s=clock.monotonic_s(), error=str(error))
        wrong = None if answer.status in {200, 403} else f"HTTP {answer.status}"
        self._world.count(request.method, name, began_s, length=len(answer.body), error=wrong)
        return client.Reply(now_s=clock.monotonic_s(), status=answer.status, body=bytes(answer.body))

    def _connection_to(self, address: str, *, fresh: bool) -> Connection:
        """Return the open connection to ``address``, or a new one, and close all others."""
        kept = None if fresh else self._open.pop(address, None)
        self._close_all()
        self._open[address] = connection = kept or Connection(address)
        return connection

    def _close_all(self) -> None:
        for connection in self._open.values():
            connection.close()
        self._open.clear()

    def _probe(self, probe: client.ProbeAll) -> client.Probed:
        self._close_all()
        began_s = clock.monotonic_s()
        latencies_s: list[float | None] = [None] * len(probe.addresses)
        news = Event()  # the first good answer, and the last answer of all
        asking: set[int] = set(range(len(probe.addresses)))

        def ask(position: int, address: str) -> None:
            connection = Connection(address)
            try:
                answer = connection.request("GET", probe.path, timeout_s=probe.timeout_s)
            except HttpError as error:
                self._world.count("GET", "/probe", began_s, error=error)
            else:
                good = answer.status == 200
                if good:
                    latencies_s[position] = clock.monotonic_s() - began_s
                    self._open[address] = connection
                    if len(self._open) == 1:
                        news.set()
                else:
                    connection.close()
                wrong = None if good else f"HTTP {answer.status}"
                self._world.count("GET", "/probe", began_s, length=len(answer.body), error=wrong)
            asking.discard(position)
            if not asking:
                news.set()

        greenlets = [gevent.spawn(ask, position, address) for position, address in enumerate(probe.addresses)]
        try:
            news.wait(probe.timeout_s)
            if asking:
                news.clear()
                news.wait(min(probe.grace_s, max(0.0, began_s + probe.timeout_s - clock.monotonic_s())))
        finally:
            if asking:
                gevent.killall([greenlets[position] for position in asking], block=False)
        for _ in asking:
            self._world.count("GET", "/probe", began_s, error="slower than the others")
        return client.Probed(now_s=clock.monotonic_s(), latencies_s=tuple(latencies_s))

    # ---- what the client tells

    def _tell(self, event: client.ClientEvent) -> None:
        if self._over:
            return
        match event:
            case client.Started():
                outcome = SampleOutcome.FALLBACK if event.degraded else SampleOutcome.OK
                self._settle(event.now_s, outcome, play_delay_s=event.play_delay_s)
            case client.Refused():
                self._settle(event.now_s, SampleOutcome.REFUSED)
            case client.Failed():
                self._settle(event.now_s, SampleOutcome.FAILED, reason=event.reason)
            case client.Watched():
                values = {"played_s": event.played_s, "stalled_s": event.stalled_s, "kbit": event.kbit}
                self._world.record("watch", event.since_s, event.now_s, SampleOutcome.OK, values)
            case client.Ended():
                outcome = SampleOutcome.OK if event.completed else SampleOutcome.FAILED
                values = {
                    "played_s": event.played_s,
                    "stalled_s": event.stalled_s,
                    "kbit": event.kbit,
                    "stalls": float(event.stalls),
                    "switches": float(event.switches),
                }
                self._world.record("session", self._due_s, event.now_s, outcome, values)
            case client.Switched():
                pass  # the session's last sample counts them
            case _:
                assert_never(event)

    def _settle(
        self, now_s: float, outcome: SampleOutcome, *, play_delay_s: float | None = None, reason: str | None = None
    ) -> None:
        values = {"lag_s": self._lag_s}
        if play_delay_s is not None:
            values["play_delay_s"] = play_delay_s
        self._world.record(self._play, self._due_s, now_s, outcome, values)
        self._world.count("PLAY", "first frame", self._due_s, error=reason)
        self.settled = True


# ---- under the runner


def play_for_runner(environment: Environment, order: LoadOrder, station: Station) -> None:
    """Play the runner's schedule, from its start moment until it says that the load is to end."""
    world = World(environment, order.client, station.recorder.record, seed=order.seed, settings=order.settings)
    dispatcher = Dispatcher(lambda *arrival: Viewer(world, *arrival), station.recorder.record)
    schedule = order.arrivals(part_of(environment))
    start_s = station.wait_for_start()
    run_or_die(lambda: dispatcher.run(schedule, start_s))
    finish_by_s = station.wait_for_finish()
    dispatcher.stop()
    dispatcher.settle(finish_by_s)
    dispatcher.end("no outcome by the end of the run")
    station.done()


# ---- under plain Locust


def add_arguments(parser: LocustArgumentParser) -> None:
    """Add what the runner would tell us otherwise."""
    group = parser.add_argument_group("playback")
    group.add_argument("--plays-per-second", type=float, default=20.0, help="New plays a second, on an open schedule.")
    group.add_argument("--target-seed", type=int, default=1, help="The seed the target was started with.")
    group.add_argument("--signing-key", default="only-for-experiments", help="The target's setting signing_key.")
    group.add_argument("--video-scale", type=float, default=60.0, help="The target's setting video_scale.")


def discard(*_: object, **__: object) -> None:
    """Record nothing: Locust's own statistics are all that a plain test has."""


class PlainLoad:
    """Plays while a plain Locust test runs: from its start to its stop, as often as the web interface is asked to."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._part, self._parts = 0, 1
        self._dispatcher: Dispatcher | None = None
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
        world = World(self._environment, config, discard, seed=config.seed)
        self._dispatcher = Dispatcher(lambda *arrival: Viewer(world, *arrival), world.record)
        schedule = arrivals(world.seed, self._options.plays_per_second, part=self._part, parts=self._parts)
        gevent.spawn(self._dispatcher.run, schedule, clock.monotonic_s() + 0.1)

    def _stop(self, **_: object) -> None:
        if self._dispatcher is not None:
            self._dispatcher.end(None)

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
