"""A Signup API with a store that a test may kill, slow down or make lose its answers."""

from __future__ import annotations

from targets.playback import signup_api
from targets.playback.passport import HEADER
from targets.playback.service import Context
from targets.playback.validation import Plan, Subscriber
from tests.unit.playback.little_store import LittleStore
from tests.unit.playback.little_target import SETTINGS, LittleTarget, config, passport_of

KEY = str(SETTINGS["signing_key"])
FORM = {"email": "ann@example.com", "password": "correct horse", "plan": "standard", "country": "country-01"}
NEVER_S = 1_000_000.0


class Backend(LittleTarget):
    """A store, and the Signup API in front of it. Billing is off the way: a period never ends."""

    async def build(self, *, instances=1, events=(), **settings):
        self.store = LittleStore()
        self.events = events
        self.store_address = await self.serve(self.store.app)
        self.apis = [await self.start_api(index, **settings) for index in range(1, instances + 1)]
        self.api = self.apis[0]

    async def start_api(self, index=1, *, stores=(), **given):
        told = {"billing_period_s": NEVER_S, "billing_rate_per_s": 1000, **given}
        context = Context(
            config(
                "signup_api",
                index=index,
                calls={"store": stores or [self.store_address], "events": self.events},
                settings=told,
                disabled=self.disabled,
            )
        )
        return await self.serve(signup_api.build(context))

    async def sign_up(self, *, key=None, **fields):
        headers = {"Idempotency_Key": key} if key else {}
        return await self.post(self.api, "/signup", {**FORM, **fields}, **headers)

    async def log_in(self, email=FORM["email"], password=FORM["password"]):
        return await self.post(self.api, "/login", {"email": email, "password": password})

    async def as_account(self, account, method, path, body=None, **headers):
        claims = Subscriber(id=account, plan=Plan.BASIC, country="country-01")
        named = {HEADER: passport_of(claims).to_header(), **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.http.request(method, f"http://{self.api}{path}", json=body, headers=named) as response:
            return response.status, await response.json()

    @property
    def accounts(self):
        return self.store.ledger.totals()["accounts"]
