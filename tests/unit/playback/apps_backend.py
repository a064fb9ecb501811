"""Playback Apps in the test's own event loop, with a store, cache control and steering of its own."""

from __future__ import annotations

from tests.unit.playback.little_target import LittleTarget, until


class Backend(LittleTarget):
    """What Playback Apps needs, and itself."""

    async def build(self, caches, *, steering=None, store=None, zones=("a", "b"), **options):
        """Start all of it."""
        self.store = store or await self.start("store")
        self.cache_control = await self.start("cache_control")
        await self.start_ocas(self.cache_control)
        self.steering = steering or await self.start("steering", calls={"cache_control": [self.cache_control]})
        self.apps = await self.start_apps(caches, zones=zones, **options)

    async def start_apps(self, caches, *, zones=("a", "b"), zone="a", **options):
        """Start another Playback Apps, in front of the same services."""
        return await self.start(
            "playback_apps",
            labels={"zone": zone},
            zones=zones,
            calls={"cache": caches, "store": [self.store], "steering": [self.steering]},
            **options,
        )

    async def until_written(self, command):
        """Wait until the cache has been written: that happens behind the answer."""

        async def is_written():
            written = (await self.breakers(self.apps))[command]
            return written["calls"] > 0 and written["in_flight"] == 0

        await until(is_written)
