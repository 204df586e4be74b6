"""`loyalty check` holds rewards and checkouts beside the ledger: real services, with faults put into their tables."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from loyalty.ledger.v1 import ledger_service_pb2 as ledger_pb
from loyalty.ledger.v1 import ledger_service_pb2_grpc
from loyalty.notifier.v1 import checkout_service_pb2 as pb
from loyalty.notifier.v1 import checkout_service_pb2_grpc
from loyalty.type.v1.money_pb2 import Money

from services.notifier.check import check
from services.notifier.check_bookings import Bookings
from services.notifier.domain.bookings import Booked
from services.notifier.domain.contacts import partition_of
from services.notifier.domain.programmes import Programmes
from services.notifier.ledger_client import LedgerClient
from services.notifier.store import Store, Transaction
from services.notifier.vault import Vault, read_master_keys
from services.programme import Programme, Versions, load
from services.runtime.channels import open_channel
from services.runtime.database import create_pool
from tests.conftest import SECRET, Database, StartLedger
from tests.coupon_desk import NOW, SECONDS, Desk, open_desk

LINES = (pb.CheckoutLine(sku="lamp", amount_minor_units=5_000), pb.CheckoutLine(sku="vase", amount_minor_units=3_000))


@pytest_asyncio.fixture
async def desk(start_ledger: StartLedger, database: Database, folder: Path, token_file: Path) -> AsyncIterator[Desk]:
    async with open_desk(start_ledger, database, folder, token_file) as opened:
        await opened.enroll("m-1")
        await opened.award("m-1", 5_000)
        yield opened


@pytest_asyncio.fixture
async def services(desk: Desk) -> AsyncIterator[tuple[Any, Any]]:
    """The ledger as the notifier calls it, and the notifier's checkouts."""
    ledger = open_channel(f"unix:{desk.folder}/ledger.sock", principal="notifier", secret=SECRET)
    notifier = open_channel(f"unix:{desk.folder}/notifier.sock", principal="test", secret=SECRET)
    yield (
        ledger_service_pb2_grpc.LedgerServiceStub(ledger),
        checkout_service_pb2_grpc.CheckoutServiceStub(notifier),
    )
    await ledger.close()
    await notifier.close()


async def commit(checkouts: Any, checkout_id: str, *, points: int = 500, pay: int | None = None) -> Any:
    """Sells two articles, at the price that is quoted where none is given."""
    basket: dict[str, Any] = {"member_id": "m-1", "currency_code": "USD", "lines": LINES, "points": points}
    if pay is None:
        quoted = await checkouts.QuoteCheckout(pb.QuoteCheckoutRequest(**basket), timeout=SECONDS)
        pay = quoted.quote.pay.minor_units
    request = pb.CommitCheckoutRequest(
        request_id=f"commit-{checkout_id}",
        checkout_id=checkout_id,
        expected_pay=Money(currency_code="USD", minor_units=pay),
        **basket,
    )
    return await checkouts.CommitCheckout(request, timeout=SECONDS)


async def as_owner(desk: Desk, *statements: str) -> None:
    connection = await asyncpg.connect(desk.database.dsn("loyalty_owner"))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def found(desk: Desk) -> dict[str, tuple[str, Any, Any]]:
    """What differs, each with where, what was expected and what is there."""
    report = await check(desk.config())
    assert len({one["what"] for one in report.differences}) == len(report.differences)
    return {one["what"]: (one["where"], one["expected"], one["found"]) for one in report.differences}


async def test_whatever_is_whole_or_nothing_is_clean(
    desk: Desk, services: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def until_just_now(transaction: Transaction, pools: Collection[str]) -> set[str]:
        monkeypatch.undo()
        return set(pools)

    _, checkouts = services
    await desk.get_reward("m-1", "mug")
    await desk.get_reward("m-1", "bonus")
    monkeypatch.setattr(Transaction, "find_pools_with_codes", until_just_now)
    with pytest.raises(grpc.aio.AioRpcError):
        # Others take the last code of its pool while points are held: they come back.
        await desk.get_reward("m-1", "code")
    await desk.void((await desk.get_reward("m-1", "tee")).coupon.code)
    regretted = await desk.get_reward("m-1", "tee")
    await desk.take_back("m-1", redemption_id=regretted.redemption_id)
    sold = await commit(checkouts, "sale-1")
    assert (sold.quote.points, sold.redemption_id[:9]) == (500, "checkout-")
    await commit(checkouts, "sale-2", points=0)
    with pytest.raises(grpc.aio.AioRpcError):
        await commit(checkouts, "sale-3", pay=1)
    await checkouts.CancelCheckout(
        pb.CancelCheckoutRequest(request_id="cancel-4", checkout_id="sale-4", member_id="m-1"), timeout=SECONDS
    )
    await desk.ledger.RecordReturn(
        ledger_pb.RecordReturnRequest(
            request_id="back",
            member_id="m-1",
            purchase_id="sale-1",
            returned_lines=[ledger_pb.ReturnedLine(line_number=1, quantity=1)],
            reason="wrong_size",
        ),
        timeout=SECONDS,
    )
    report = await check(desk.config())
    assert report.differences == ()
    assert (report.checked["rewards"], report.checked["checkout_requests"]) == (5, 4)


async def test_a_reward_that_the_ledger_and_we_tell_differently_is_named(desk: Desk) -> None:
    had = await desk.get_reward("m-1", "mug", request_id="r-1")
    code = had.coupon.code
    await desk.get_reward("m-1", "bonus", request_id="r-2")
    name = had.redemption_id.removesuffix("-capture")

    await as_owner(desk, "UPDATE notifier.reward_intents SET points = 600 WHERE request_id = 'r-1'")
    where, expected, there = (await found(desk))["points redeemed of a reward"]
    assert f"member m-1, reward mug by request r-1, at the ledger by requests {name}-*" in where
    assert (expected, there) == (600, 500)

    await as_owner(
        desk,
        "UPDATE notifier.reward_intents SET points = 500 WHERE request_id = 'r-1'",
        "UPDATE notifier.coupons SET preparing = true WHERE reward_id = 'mug'",
        """UPDATE notifier.reward_intents SET state = 'refused',
               refusal = '{"reason": "OUT_OF_STOCK", "sentence": "none is left", "facts": {}}'
           WHERE request_id = 'r-2'""",
    )
    told = await found(desk)
    assert told["points redeemed of a reward"][1:] == (0, 500)
    assert told["points given of a reward"][1:] == (0, 700)
    assert told[f"coupon {code} of a reward"][1:] == ("issued or void", "preparing")

    await as_owner(
        desk,
        "UPDATE notifier.reward_intents SET state = 'issued', refusal = NULL",
        """INSERT INTO notifier.reward_reversals (partition, member_id, request_id, principal, begun_time, state,
               not_before)
           SELECT partition, member_id, request_id, 'desk', now(), 'done', now()
           FROM notifier.reward_intents WHERE request_id = 'r-1'""",
    )
    told = await found(desk)
    assert told["points redeemed of a reward"][1:] == (0, 500)
    assert told[f"coupon {code} of a reward"][1:] == ("void", "preparing")

    await as_owner(desk, "DELETE FROM notifier.reward_intents WHERE request_id = 'r-1'")
    where, expected, there = (await found(desk))["points redeemed without a reward"]
    assert f"member m-1, at the ledger by requests {name}-*" in where
    assert (expected, there) == (None, 500)


async def test_a_reward_that_the_ledger_knows_nothing_of_is_named(desk: Desk) -> None:
    await desk.get_reward("m-1", "mug", request_id="r-1")
    await as_owner(desk, "UPDATE notifier.reward_intents SET request_id = 'r-9'")
    told = await found(desk)
    assert told["points redeemed of a reward"][1:] == (500, 0)
    assert told["points redeemed without a reward"][1:] == (None, 500)


async def test_a_stock_or_a_limit_of_which_another_number_is_counted_than_was_given_is_named(desk: Desk) -> None:
    await desk.get_reward("m-1", "mug")
    await desk.get_reward("m-1", "bonus")
    assert await found(desk) == {}

    await as_owner(desk, "UPDATE notifier.reward_counts SET taken = taken + 2 WHERE reward_id = 'mug'")
    told = await found(desk)
    member, stock = told.pop("rewards that a member had"), told.pop("pieces taken of a stock")
    assert told == {}
    home = partition_of("m-1", 4), partition_of("mug", 4)
    assert member == (f"partition {home[0]}, member m-1, reward mug", 1, 3)
    assert stock == (f"partition {home[1]}, reward mug", 1, 3)

    await as_owner(desk, "DELETE FROM notifier.reward_counts WHERE reward_id = 'mug'")
    told = await found(desk)
    assert [told[what][1:] for what in ("rewards that a member had", "pieces taken of a stock")] == [(1, 0), (1, 0)]

    await as_owner(
        desk,
        f"INSERT INTO notifier.reward_counts VALUES ({home[0]}, 'm-1', 'mug', 1), ({(home[1] + 1) % 4}, '', 'mug', 1)",
    )
    told = await desk.differences()
    assert sorted(told) == [("pieces taken of a stock", 0, 1), ("pieces taken of a stock", 1, 0)], "of another place"


async def test_a_checkout_that_the_ledger_and_we_tell_differently_is_named(
    desk: Desk, services: tuple[Any, Any]
) -> None:
    _, checkouts = services
    sold = await commit(checkouts, "sale-1")
    name = sold.redemption_id.removesuffix("-points")
    amount = sold.quote.amount.minor_units
    assert await found(desk) == {}

    await as_owner(
        desk,
        """UPDATE notifier.checkout_requests SET answer = jsonb_set(jsonb_set(answer,
               '{sold,quote,price,line_amounts}', '[1]'), '{sold,quote,price,points}', '400')""",
    )
    told = await found(desk)
    assert told["points redeemed of a checkout"][1:] == (400, 500)
    assert told["points that paid for the purchase of a checkout"][1:] == (400, 500)
    where, expected, there = told["amount in minor units of the purchase of a checkout"]
    assert f"member m-1, checkout sale-1 by request commit-sale-1, at the ledger by requests {name}-*" in where
    assert (expected, there) == (1, amount)

    await as_owner(desk, "UPDATE notifier.checkouts SET state = 'refused'")
    assert (await found(desk))["state of a checkout that was sold"][1:] == ("done", "refused")

    await as_owner(desk, "UPDATE notifier.checkouts SET state = 'done'", "DELETE FROM notifier.checkout_requests")
    told = await found(desk)
    assert told["answer of a checkout"][1:] == ("one", None)

    await as_owner(desk, "DELETE FROM notifier.checkouts")
    told = await found(desk)
    assert told["purchase without a checkout"][1:] == (None, "sale-1")
    assert told["points redeemed without a checkout"][1:] == (None, 500)
    assert name in told["points redeemed without a checkout"][0]


async def test_a_checkout_that_the_ledger_has_no_purchase_of_is_named(desk: Desk, services: tuple[Any, Any]) -> None:
    _, checkouts = services
    await commit(checkouts, "sale-1")
    await as_owner(
        desk,
        "INSERT INTO notifier.checkouts SELECT partition, member_id, 'sale-9', 'commit-9', sale_id, state, content,"
        " started_time, lease_until, undone_offset FROM notifier.checkouts",
        "INSERT INTO notifier.checkout_requests SELECT partition, member_id, 'commit-9', content_digest, 'sale-9',"
        " answer, recorded_time FROM notifier.checkout_requests",
    )
    told = await found(desk)
    assert told["purchase of a checkout"][1:] == ("sale-9", None)
    assert told["points redeemed of a checkout"][1:] == (500, 0)


async def test_points_that_are_held_for_nothing_are_named_until_the_hold_runs_out(
    desk: Desk, services: tuple[Any, Any]
) -> None:
    ledger, _ = services
    lasting = Duration()
    lasting.FromTimedelta(timedelta(minutes=15))
    hold = f"reward-{'0' * 32}-hold"
    request = ledger_pb.HoldPointsRequest(request_id=hold, member_id="m-1", points=500, ttl=lasting, reason="reward")
    await ledger.HoldPoints(request, timeout=SECONDS)
    assert (await found(desk))["points held without a reward"][1:] == (None, 500)
    await desk.advance(NOW + timedelta(minutes=15))
    assert (await desk.points("m-1"))[1] == 0
    assert await found(desk) == {}


@contextlib.asynccontextmanager
async def comparing(desk: Desk, learnt: Programme | None = None) -> AsyncIterator[Bookings]:
    """Reads what we keep of the partition of m-1; the log is read at the end, and both are compared. `learnt`: the one
    version of the programme that is known until then, else all."""
    config = desk.config()
    pool = await create_pool(config.database_url, service="notifier")
    channel = open_channel(config.ledger_address, principal="notifier", secret=SECRET)
    try:
        store, ledger = Store(pool), LedgerClient(channel)
        keys = read_master_keys(config.master_key_file)
        installation = await store.read(Transaction.read_installation)
        assert installation is not None
        programmes = Programmes(load(config.programme))
        programmes.learn(await ledger.versions() if learnt is None else Versions.only(learnt))
        request_key = Vault(keys, installation).request_key
        bookings = Bookings(store=store, ledger=ledger, programmes=programmes, request_key=request_key)
        await bookings.begin([partition_of("m-1", installation.partitions)])
        yield bookings
        async for entries in ledger.entries({}, follow=False, bookings=True):
            for entry in entries:
                if isinstance(entry.fact, Booked):
                    bookings.add(entry.fact)
        await bookings.compare()
    finally:
        await channel.close()
        await pool.close()


async def test_what_begins_or_goes_on_while_the_log_is_read_is_no_difference(
    desk: Desk, services: tuple[Any, Any]
) -> None:
    _, checkouts = services
    regretted = await desk.get_reward("m-1", "mug")
    async with comparing(desk) as bookings:
        await desk.get_reward("m-1", "tee")
        await desk.take_back("m-1", redemption_id=regretted.redemption_id)
        await commit(checkouts, "sale-1")
    assert bookings.differences == []
    assert bookings.checked == {"rewards": 1, "checkout_requests": 0}


async def test_a_reward_of_a_version_that_came_while_the_check_ran_is_no_difference(desk: Desk) -> None:
    newer = load(desk.programme)
    older = replace(newer, rewards=tuple(one for one in newer.rewards if one.id != "bonus"))
    await desk.get_reward("m-1", "bonus")
    async with comparing(desk, learnt=older) as bookings:
        pass
    assert bookings.differences == []
    assert bookings.checked == {"rewards": 1, "checkout_requests": 0}


async def test_rewards_and_checkouts_are_read_of_some_members_alone(desk: Desk, services: tuple[Any, Any]) -> None:
    _, checkouts = services
    await desk.get_reward("m-1", "mug")
    await commit(checkouts, "sale-1")
    config = desk.config()
    pool = await create_pool(config.database_url, service="notifier")
    try:
        store = Store(pool)
        installation = await store.read(Transaction.read_installation)
        assert installation is not None
        partition = partition_of("m-1", installation.partitions)
        for read in (Transaction.check_reward_intents, Transaction.check_checkouts):
            for members, count in ((None, 1), (["m-1", "m-2"], 1), (["m-2"], 0)):
                assert len(await store.read(partial(read, partition=partition, members=members))) == count
    finally:
        await pool.close()
