"""However a history is cut up on its way, and wherever the way breaks off, the same becomes of it.

The real loader and the three services over unix sockets, all in this process, so that a test can turn every screw.
"""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from loyalty.ledger.v1 import entry_pb2, ledger_service_pb2_grpc
from loyalty.notifier.v1 import coupon_pb2_grpc, notifier_service_pb2_grpc
from loyalty.tiers.v1 import tier_service_pb2_grpc

from services import programme as programmes
from services.cli import loader as loader_module
from services.cli import staging as staging_module
from services.cli.formats.online_retail import FORMAT
from services.cli.importing import History
from services.cli.installation import Installation
from services.cli.loader import Closed, Loaded, Loader, Notes
from services.cli.postgres import Cluster
from services.cli.remote import Services
from services.ledger.app import build as build_ledger
from services.ledger.config import Config as LedgerConfig
from services.notifier.app import build as build_notifier
from services.notifier.config import NotifierConfig
from services.runtime.channels import open_channel
from services.runtime.clock import ClockMode
from services.tiers.app import build as build_tiers
from services.tiers.config import Config as TiersConfig
from tests.conftest import PROGRAMMES, SECRET, Database, fresh_database, identifier_key, serving
from tests.histories import staged
from tests.made_history import CLIMBER, open_days, write_history
from tests.mail_server import LocalMailServer, mail_server
from tests.outcomes import Outcome, assert_same, outcome_of

PROGRAMME = PROGRAMMES / "retail-demo.yaml"
RULES = programmes.load(PROGRAMME)
DAYS = open_days(before=14, between=3, after=14)


class Unwatched:
    def day_closed(self, closed: Closed) -> None:
        pass


@dataclass(kw_only=True)
class Platform:
    """The services of a new installation; tiers can go away and come back."""

    folder: Path
    database: Database
    mail: LocalMailServer
    lanes: int
    services: Services
    rewards: Any
    tiers: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    def loader(self, history: History, services: Services | None = None) -> Loader:
        """As a new process would have it: what was loaded before it reads from the folder."""
        there = Installation(
            directory=self.folder,
            clock=ClockMode.SIMULATED,
            partitions=16,
            programme_version=RULES.version,
            created="2024-01-01T00:00:00+00:00",
        )
        return Loader(
            services=services or self.services,
            programme=RULES,
            form=FORMAT,
            staging=history.staging,
            notes=Notes(there, FORMAT, history.units, history.fingerprint),
            watcher=Unwatched(),
        )

    async def outcome(self) -> Outcome:
        return await outcome_of(self.rewards, self.services)

    async def start_ledger(self, stack: contextlib.AsyncExitStack) -> None:
        config = LedgerConfig(
            **self._common("ledger"),
            identifier_key_file=identifier_key(self.folder),
            clock=ClockMode.SIMULATED,
            lanes=self.lanes,
        )
        await stack.enter_async_context(serving(await build_ledger(config, stack), config.listen))

    async def start_tiers(self) -> None:
        config = TiersConfig(**self._common("tiers"), ledger_address=address(self.folder, "ledger"))
        await self.tiers.enter_async_context(serving(await build_tiers(config, self.tiers), config.listen))

    async def start_notifier(self, stack: contextlib.AsyncExitStack) -> None:
        config = NotifierConfig(
            **self._common("notifier"),
            ledger_address=address(self.folder, "ledger"),
            tiers_address=address(self.folder, "tiers"),
            smtp_host="127.0.0.1",
            smtp_port=self.mail.port,
            mail_from="shop@example.com",
            master_key_file=self.folder / "master-key",
        )
        await stack.enter_async_context(serving(await build_notifier(config, stack), config.listen))

    def _common(self, name: str) -> dict[str, Any]:
        return {
            "listen": address(self.folder, name),
            "database_url": self.database.dsn(f"loyalty_{name}"),
            "programme": PROGRAMME,
            "token_file": self.folder / "token",
        }


def address(folder: Path, name: str) -> str:
    return f"unix:{folder}/{name}.sock"


@contextlib.asynccontextmanager
async def platform(cluster: Cluster, *, lanes: int = 1) -> AsyncIterator[Platform]:
    """All three, up."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="ly-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "token").write_text(SECRET)
        (folder / "master-key").write_text(base64.b64encode(b"m" * 32).decode() + "\n")
        database = stack.enter_context(fresh_database(cluster))
        mail = await stack.enter_async_context(mail_server(folder / "mail"))
        ledger, tiers, notifier = [
            await stack.enter_async_context(open_channel(address(folder, name), principal="test", secret=SECRET))
            for name in ("ledger", "tiers", "notifier")
        ]
        made = Platform(
            folder=folder,
            database=database,
            mail=mail,
            lanes=lanes,
            services=Services(
                ledger=ledger_service_pb2_grpc.LedgerServiceStub(ledger),
                tiers=tier_service_pb2_grpc.TierServiceStub(tiers),
                notifier=notifier_service_pb2_grpc.NotifierServiceStub(notifier),
            ),
            rewards=coupon_pb2_grpc.RewardServiceStub(notifier),
        )
        await made.start_ledger(stack)
        await stack.enter_async_context(made.tiers)
        await made.start_tiers()
        await made.start_notifier(stack)
        yield made


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Two weeks, three days in the year after, and the same weeks a year later."""
    path = tmp_path_factory.mktemp("source") / "history.csv"
    write_history(path, DAYS, members=24, a_day=10, rush=160)
    with staged(FORMAT, path, RULES) as read:
        yield read


@pytest_asyncio.fixture(scope="module")
async def expected(cluster: Cluster, history: History) -> Outcome:
    """What becomes of it by one lane, and as the loader is set."""
    async with platform(cluster) as made:
        loaded = await made.loader(history).load()
        assert (loaded.movements_sent, loaded.totals.refused.lines) == (history.survey.movements, 0)
        return await made.outcome()


async def test_the_history_is_one_in_which_chance_could_show(expected: Outcome) -> None:
    classes = {
        entry.purchase_id: entry.earning_class
        for entry in expected.entries[CLIMBER]
        if entry.kind == entry_pb2.ENTRY_KIND_PURCHASE_RECORDED
    }
    # The shop is in London and the programme in New York, where K6 still belongs to the first day.
    assert classes == {
        **dict.fromkeys(("K1", "K2", "K3", "K5", "K6"), "white"),
        **dict.fromkeys(("K7", "K8"), "golden"),
        "K9": "green",
    }
    climbed = [(cause, change.to_tier) for cause, change in expected.changes[CLIMBER]]
    assert climbed[:4] == [
        ("online-retail/purchase/climber/K2", "Green"),
        ("online-retail/purchase/climber/K3", "Silver"),
        ("online-retail/return/climber/CK4", "Green"),
        ("online-retail/purchase/climber/K5", "Golden"),
    ]
    told = [one for changes in expected.changes.values() for one in changes]
    ways = {(cause == "", change.to_tier_number > change.from_tier_number) for cause, change in told}
    assert ways == {(True, False), (False, True), (False, False)}
    assert [coupon.code for coupon in expected.coupons[CLIMBER]][:3] == ["GREEN", "SILVER", "GOLDEN"]


@pytest.mark.parametrize(
    "lanes, limits",
    [
        (2, {}),
        (5, {}),
        (1, {"MAX_WRITES": 1}),
        (2, {"MAX_WRITES": 7}),
        (1, {"MAX_LINES": 5}),
        (2, {"ROWS_AT_ONCE": 1}),
        (2, {"ROWS_AT_ONCE": 8, "_WORTH_A_ROW": 1}),
        (1, {"_SLICE_MOVEMENTS": 1}),
        (2, {"_SLICE_LINES": 9}),
        (5, {"MAX_WRITES": 3, "ROWS_AT_ONCE": 8, "_WORTH_A_ROW": 1, "_SLICE_MOVEMENTS": 20}),
    ],
    ids=str,
)
async def test_lanes_batches_clients_and_slices_change_nothing(
    cluster: Cluster,
    history: History,
    expected: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    lanes: int,
    limits: dict[str, int],
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(staging_module if name.startswith("_SLICE") else loader_module, name, limit)
    async with platform(cluster, lanes=lanes) as made:
        loaded = await made.loader(history).load()
        found = await made.outcome()
    assert loaded.movements_sent == history.survey.movements
    assert_same(found, expected)


class CutOffError(Exception):
    """The loader is no more."""


Hook = Callable[[str], Awaitable[None]]


@dataclass(kw_only=True)
class Hooked:
    """A stub that says by name what is asked and what was answered; a hook that raises keeps the answer back."""

    stub: Any
    asked: Hook
    answered: Hook

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any, **options: Any) -> Any:
            await self.asked(name)
            answer = await getattr(self.stub, name)(request, **options)
            await self.answered(name)
            return answer

        return call


def hooked(services: Services, *, asked: Hook | None = None, answered: Hook | None = None) -> Services:
    async def nothing(name: str) -> None:
        pass

    def hook(stub: Any) -> Hooked:
        return Hooked(stub=stub, asked=asked or nothing, answered=answered or nothing)

    return Services(ledger=hook(services.ledger), tiers=hook(services.tiers), notifier=hook(services.notifier))


async def test_a_load_that_is_cut_off_again_and_again_after_any_of_its_calls_comes_to_the_same(
    cluster: Cluster, history: History, expected: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "MAX_WRITES", 10)
    chance = random.Random(5)
    tries = lifetime = 0
    loaded: Loaded | None = None

    async def answered(name: str) -> None:
        nonlocal lifetime
        lifetime -= 1
        if lifetime <= 0:
            raise CutOffError

    async with platform(cluster, lanes=2) as made:
        while loaded is None:
            tries += 1
            # In calls; the longest is enough for the longest day.
            lifetime = chance.choice((2, 3, 5, 6, 7, 8, 9, 10, 40))
            with contextlib.suppress(CutOffError):
                loaded = await made.loader(history, hooked(made.services, answered=answered)).load()
        found = await made.outcome()
    assert_same(found, expected)
    assert tries > 15
    # What was sent twice is counted once.
    purchases, returns = loaded.totals.purchases, loaded.totals.returns
    assert purchases.recorded + purchases.there == history.survey.purchases
    assert returns.recorded + returns.there == history.survey.returns
    assert loaded.totals.loaded == history.survey.accepted


async def test_what_the_end_of_a_day_brings_is_waited_for_though_the_load_was_cut_off_there_and_tiers_are_away(
    cluster: Cluster, history: History, expected: Outcome
) -> None:
    moves, away = 0, False
    async with platform(cluster) as made:

        async def lose_tiers(name: str) -> None:
            nonlocal moves, away
            moves += name == "AdvanceClock"
            # The first brings the clock to the evening of New York before the first day of London.
            if moves == 3:
                away = True
                await made.tiers.aclose()

        async def cut_off(name: str) -> None:
            if away:
                raise CutOffError

        async def bring_tiers_back(name: str) -> None:
            nonlocal away
            if away and name in ("CountStandings", "ListStandings"):
                away = False
                await made.start_tiers()

        with pytest.raises(CutOffError):
            await made.loader(history, hooked(made.services, asked=lose_tiers, answered=cut_off)).load()
        await made.loader(history, hooked(made.services, asked=bring_tiers_back)).load()
        found = await made.outcome()
    assert not away
    assert_same(found, expected)
