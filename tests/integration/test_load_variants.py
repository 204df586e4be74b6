"""However a history is cut up on its way, and wherever the way breaks off, the same becomes of it.

The real loader and the three services over unix sockets, all in this process, so that a test can turn every screw.
"""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
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
from services.runtime.clock import ClockMode
from services.tiers.app import build as build_tiers
from services.tiers.config import Config as TiersConfig
from tests.conftest import PROGRAMMES, SECRET, fresh_database, serving
from tests.histories import staged
from tests.made_history import CLIMBER, open_days, write_history
from tests.mail_server import mail_server
from tests.outcomes import Outcome, assert_same, outcome_of

PROGRAMME = PROGRAMMES / "retail-demo.yaml"
RULES = programmes.load(PROGRAMME)
DAYS = open_days(before=14, between=3, after=14)


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The services of a new installation."""

    services: Services
    rewards: Any
    installation: Installation

    def loader(self, history: History, services: Services | None = None) -> Loader:
        """As a new process would have it: what was loaded before it reads from the folder."""
        return Loader(
            services=services or self.services,
            programme=RULES,
            form=FORMAT,
            staging=history.staging,
            notes=Notes(self.installation, FORMAT, history.units, history.fingerprint),
            watcher=Unwatched(),
        )

    async def outcome(self) -> Outcome:
        return await outcome_of(self.rewards, self.services)


class Unwatched:
    def day_closed(self, closed: Closed) -> None:
        pass


@contextlib.asynccontextmanager
async def platform(cluster: Cluster, *, lanes: int = 1) -> AsyncIterator[Platform]:
    folder = Path(tempfile.mkdtemp(prefix="ly-"))
    token_file, key_file = folder / "token", folder / "master-key"
    token_file.write_text(SECRET)
    key_file.write_text(base64.b64encode(b"m" * 32).decode() + "\n")
    addresses = {name: f"unix:{folder}/{name}.sock" for name in ("ledger", "tiers", "notifier")}
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database = stack.enter_context(fresh_database(cluster))
        mail = await stack.enter_async_context(mail_server(folder / "mail"))

        def common(name: str) -> dict[str, Any]:
            return {
                "listen": addresses[name],
                "database_url": database.dsn(f"loyalty_{name}"),
                "programme": PROGRAMME,
                "token_file": token_file,
            }

        async def serve(name: str, build: Any, config: Any) -> Any:
            return await stack.enter_async_context(serving(await build(config, stack), addresses[name]))

        ledger = await serve(
            "ledger", build_ledger, LedgerConfig(**common("ledger"), clock=ClockMode.SIMULATED, lanes=lanes)
        )
        tiers = await serve("tiers", build_tiers, TiersConfig(**common("tiers"), ledger_address=addresses["ledger"]))
        notifier = await serve(
            "notifier",
            build_notifier,
            NotifierConfig(
                **common("notifier"),
                ledger_address=addresses["ledger"],
                tiers_address=addresses["tiers"],
                smtp_host="127.0.0.1",
                smtp_port=mail.port,
                mail_from="shop@example.com",
                master_key_file=key_file,
            ),
        )
        yield Platform(
            services=Services(
                ledger=ledger_service_pb2_grpc.LedgerServiceStub(ledger),
                tiers=tier_service_pb2_grpc.TierServiceStub(tiers),
                notifier=notifier_service_pb2_grpc.NotifierServiceStub(notifier),
            ),
            rewards=coupon_pb2_grpc.RewardServiceStub(notifier),
            installation=Installation(
                directory=folder,
                clock=ClockMode.SIMULATED,
                partitions=16,
                programme_version=RULES.version,
                created="2024-01-01T00:00:00+00:00",
            ),
        )


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
    bought = entry_pb2.ENTRY_KIND_PURCHASE_RECORDED
    for member_id in (CLIMBER, "m-1"):
        classes = {entry.earning_class for entry in expected.entries[member_id] if entry.kind == bought}
        assert len(classes) > 1, member_id
    climbed = [(cause, change.to_tier) for cause, change in expected.changes[CLIMBER]]
    assert climbed[:4] == [
        ("online-retail/purchase/climber/K2", "Green"),
        ("online-retail/purchase/climber/K3", "Silver"),
        ("online-retail/return/climber/CK4", "Green"),
        ("online-retail/purchase/climber/K5", "Golden"),
    ]
    causes = [(cause == "", change.to_tier_number > change.from_tier_number) for changes in expected.changes.values()
              for cause, change in changes]  # fmt: skip
    assert {(by_time, up) for by_time, up in causes} == {(True, False), (False, True), (False, False)}
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
        assert (await made.loader(history).load()).movements_sent == history.survey.movements
        assert_same(await made.outcome(), expected)


class CutOffError(Exception):
    """The loader is no more."""


@dataclass
class Lifetime:
    """Calls that a loader lives to send: the answer to the last one never reaches it."""

    calls: int

    def stub(self, stub: Any) -> Any:
        return MortalStub(stub, self)


@dataclass
class MortalStub:
    stub: Any
    lifetime: Lifetime

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any, **options: Any) -> Any:
            answer = await getattr(self.stub, name)(request, **options)
            self.lifetime.calls -= 1
            if self.lifetime.calls <= 0:
                raise CutOffError
            return answer

        return call


async def test_a_load_that_is_cut_off_again_and_again_after_any_of_its_calls_comes_to_the_same(
    cluster: Cluster, history: History, expected: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "MAX_WRITES", 10)
    chance = random.Random(5)
    tries = 0
    loaded: Loaded | None = None
    async with platform(cluster, lanes=2) as made:
        while loaded is None:
            tries += 1
            lifetime = Lifetime(chance.choice((2, 3, 5, 7, 9, 11, 13, 40)))
            services = Services(
                ledger=lifetime.stub(made.services.ledger),
                tiers=lifetime.stub(made.services.tiers),
                notifier=lifetime.stub(made.services.notifier),
            )
            with contextlib.suppress(CutOffError):
                loaded = await made.loader(history, services).load()
        assert_same(await made.outcome(), expected)
    assert tries > len(DAYS)
    # What was sent twice is counted once.
    purchases, returns = loaded.totals.purchases, loaded.totals.returns
    assert purchases.recorded + purchases.there == history.survey.purchases
    assert returns.recorded + returns.there == history.survey.returns
    assert loaded.totals.loaded == history.survey.accepted
