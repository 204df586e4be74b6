"""`loyalty coupons` against a running stack."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import segno
from google.protobuf.timestamp_pb2 import Timestamp
from loyalty.notifier.v1 import coupon_pb2 as pb
from loyalty.notifier.v1 import coupon_pb2_grpc, reward_pb2

from services.cli import remote
from services.cli.installation import Connection
from services.cli.till import gateway
from tests.conftest import loyalty


def coupons(live: Connection, *arguments: str) -> Any:
    return loyalty("coupons", *arguments, "--data", str(live.installation.directory))


@pytest.fixture(scope="module")
def code(live: Connection) -> str:
    """The code of a coupon."""

    async def issue() -> str:
        until = Timestamp()
        until.FromDatetime(datetime.now(UTC) + timedelta(days=30))
        request = pb.IssueCouponRequest(
            request_id="coupon-commands-1",
            offer=reward_pb2.Offer(kind=reward_pb2.OFFER_KIND_EXPERIENCE, detail="A tour"),
            valid_until_time=until,
            prefix="TOUR",
            reason="test",
        )
        channel = remote.open_service(live, "notifier")
        try:
            answer = await remote.call(coupon_pb2_grpc.RewardServiceStub(channel).IssueCoupon, request)
        finally:
            await channel.close()
        return str(answer.coupon.code)

    return asyncio.run(issue())


def test_a_file_of_codes_is_taken_in_each_line_accounted_for_and_a_second_time_all_the_same(
    live: Connection, tmp_path: Path
) -> None:
    lines = [f"SHOP-{number:06}-K" for number in range(1, 25_001)]
    lines[99] = "shop000007k"
    lines[12_344] = "not a code"
    lines[20_000] = "SH0P-OOOO12-K"
    lines[20_001] = ""
    file = tmp_path / "codes.txt"
    file.write_bytes("\r\n".join(lines).encode() + b"\r\n\xff\xfe\x00\r\n" + b"A" * 100_000 + b"\r\n")
    for _ in range(2):
        done = coupons(live, "import", "shop", str(file), "--json")
        assert done.returncode == 0, done.stderr
        account = json.loads(done.stdout)
        assert (account["lines"], account["imported"]) == (25_001, 24_996), "an empty line is no line of codes"
        assert account["left_out"] == {"duplicate": 1, "malformed": 3, "looks like another": 1}
        assert account["problems"] == [
            {"line": 100, "what": "duplicate", "other_line": 7},
            {"line": 12_345, "what": "malformed", "other_line": 0},
            {"line": 20_001, "what": "looks like another", "other_line": 12},
            {"line": 25_001, "what": "malformed", "other_line": 0},
            {"line": 25_002, "what": "malformed", "other_line": 0},
        ]
    told = coupons(live, "import", "shop", str(file)).stdout
    assert "24,996 of 25,001 lines are in the pool shop" in told
    assert "line 100: duplicate (line 7)" in told


@pytest.mark.parametrize("text", ["", "\n \r\n", "not a code\n\nneither is this!\n"])
def test_a_file_without_codes_is_told_in_a_sentence(live: Connection, tmp_path: Path, text: str) -> None:
    file = tmp_path / "codes.txt"
    file.write_text(text)
    done = coupons(live, "import", "shop", str(file))
    assert (done.returncode, f"{file} has no codes" in done.stderr) == (2, True)


def test_a_file_that_is_not_there_and_a_pool_that_cannot_be_are_told_in_a_sentence(
    live: Connection, tmp_path: Path
) -> None:
    done = coupons(live, "import", "shop", str(tmp_path / "nothing"))
    assert (done.returncode, "cannot be read" in done.stderr) == (1, True)
    file = tmp_path / "codes.txt"
    file.write_text("ABCDEFGH\n")
    done = coupons(live, "import", "No Pool", str(file))
    assert (done.returncode, "pool" in done.stderr, "request_id" in done.stderr) == (1, True, False)
    assert "Traceback" not in done.stderr


def test_the_picture_of_a_code_says_the_code_square_for_square(live: Connection, code: str, tmp_path: Path) -> None:
    png, svg = tmp_path / "code.png", tmp_path / "code.svg"
    done = coupons(live, "qr", code.lower(), "--png", str(png), "--svg", str(svg))
    assert done.returncode == 0, done.stderr
    meant = [[bool(square) for square in row] for row in segno.make_qr(code, error="q").matrix_iter(border=4)]
    assert squares(png.read_bytes(), len(meant)) == meant
    assert svg.read_text().startswith("<?xml")
    done = coupons(live, "qr", code)
    assert (done.returncode, "--png FILE" in done.stderr) == (2, True)
    done = coupons(live, "qr", "NO-SUCH-CODE", "--png", str(png))
    assert (done.returncode, "COUPON_UNKNOWN" in done.stderr) == (1, True)


def test_a_coupon_lives_its_life_over_http(live: Connection) -> None:
    until = (datetime.now(UTC) + timedelta(days=2)).isoformat().replace("+00:00", "Z")
    with gateway(live, principal="till-9") as http:
        http.call("POST", "/v1/members", {"request_id": "http-member", "member_id": "http-member"})
        made = http.call(
            "POST",
            "/v1/coupons",
            {
                "request_id": "http-issue",
                "member_id": "http-member",
                "offer": {"kind": "OFFER_KIND_DISCOUNT_PERCENT", "percent_basis_points": 1000},
                "terms": {"minimum": {"currency_code": "USD", "minor_units": "1000"}},
                "valid_until_time": until,
                "prefix": "HTTP",
                "reason": "goodwill",
            },
        )["coupon"]
        place = f"/v1/coupons/{made['code']}"
        small = {"member_id": "http-member", "lines": [{"sku": "a", "amount_minor_units": "999"}]}
        verdict = http.call("POST", f"{place}:validate", {"context": small})
        assert verdict["reason"] == "ERROR_REASON_COUPON_BELOW_MINIMUM"
        assert "10.00 USD" in verdict["sentence"]
        where = {"member_id": "http-member", "lines": [{"sku": "a", "amount_minor_units": "1000"}]}
        held = http.call("POST", f"{place}:reserve", {"request_id": "http-reserve", "context": where, "ttl": "60s"})
        assert http.call("GET", place)["coupon"]["state"] == "COUPON_STATE_RESERVED"
        use = {"request_id": "http-redeem", "use_id": held["use_id"]}
        assert http.call("POST", f"{place}:redeem", use)["coupon"]["state"] == "COUPON_STATE_REDEEMED"
        back = {"request_id": "http-release", "use_id": held["use_id"], "redeemed": True}
        assert http.call("POST", f"{place}:release", back)["coupon"]["state"] == "COUPON_STATE_ISSUED"
        void = {"request_id": "http-void", "reason": "mistake"}
        assert http.call("POST", f"{place}:void", void)["coupon"]["state"] == "COUPON_STATE_VOID"
        listed = http.call("GET", "/v1/members/http-member/coupons")["coupons"]
        assert [one["code"] for one in listed] == [made["code"]]
        assert http.call("GET", f"{place}?qr=QR_FORMAT_PNG")["qr"].startswith("iVBORw0KGgo")
        codes = {"request_id": "http-import", "import_id": "http", "first_line": "1", "codes": ["HTTP-CODE-1"]}
        assert http.call("POST", "/v1/pools/http/codes:import", codes)["imported"] == "1"
        assert http.call("GET", "/v1/members/http-member/rewards?language=en")["available_points"] == "100"


def squares(png: bytes, across: int) -> list[list[bool]]:
    """The squares of a QR code in a PNG of one bit a pixel: True where one is dark."""
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert (width, depth) == (height, 1)
    assert colour in (0, 3)
    data, place = b"", 8
    while place < len(png):
        (length,), kind = struct.unpack(">I", png[place : place + 4]), png[place + 4 : place + 8]
        if kind == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += length + 12
    packed = zlib.decompress(data)
    stride = (width + 7) // 8 + 1
    scale = width // across
    rows: list[bytes] = []
    for start in range(0, len(packed), stride):
        how, row = packed[start], packed[start + 1 : start + stride]
        assert how in (0, 2), "a row is as it is, or tells what differs from the one above"
        if how == 2:
            row = bytes((own + above) % 256 for own, above in zip(row, rows[-1], strict=True))
        rows.append(row)

    def dark(x: int, y: int) -> bool:
        return not rows[y][x // 8] >> (7 - x % 8) & 1

    return [[dark(x * scale + 1, y * scale + 1) for x in range(across)] for y in range(across)]
