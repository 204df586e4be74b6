"""`loyalty segments` against a running stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from services.cli.installation import Connection
from services.cli.till import gateway
from tests.conftest import loyalty


def segments(live: Connection, *arguments: str) -> Any:
    return loyalty("segments", *arguments, "--data", str(live.installation.directory))


@pytest.fixture(scope="module")
def members(live: Connection) -> list[str]:
    """Members that the notifier has heard of."""
    names = [f"segment-{number}" for number in range(3)]
    with gateway(live, principal="till-9") as http:
        for name in names:
            token = http.call("POST", "/v1/members", {"request_id": name, "member_id": name})["causal_token"]
            http.call("GET", f"/v1/deliveries?member_id={name}&causal_token={quote(token)}")
    return names


def in_segment(live: Connection, segment: str, members: list[str]) -> list[str]:
    """Those of the members whom an export shows in the segment."""
    with gateway(live, principal="desk") as http:
        found = []
        for name in members:
            records = http.call("GET", f"/v1/members/{name}:export")["records"]
            rows = [json.loads(one["json"]) for one in records if one["category"] == "profile"]
            found += [name for row in rows if row.get("segment") == segment]
    return found


def test_a_list_of_members_is_taken_in_each_line_accounted_for_and_a_second_time_all_the_same(
    live: Connection, members: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "vip.csv"
    strangers = [f"stranger-{number}" for number in range(4500)]
    lines = ["spent,member_id", *(f"10.00,{name}" for name in (*members, *strangers, members[0]))]
    file.write_text("\n".join([*lines, "", '1.00,"no, member"', "12.00", ""]))
    for added in (3, 0):
        done = segments(live, "import", "vip", str(file), "--json")
        assert done.returncode == 0, done.stderr
        account = json.loads(done.stdout)
        assert (account["lines"], account["members"], account["added"]) == (4506, 3, added)
        assert account["left_out"] == {"no member": 4500, "duplicate": 1, "malformed": 2}
        assert account["problems"][0] == {"line": 5, "what": "no member", "other_line": 0}
        assert account["problems"][-3:] == [
            {"line": 4505, "what": "duplicate", "other_line": 2},
            {"line": 4507, "what": "malformed", "other_line": 0},
            {"line": 4508, "what": "malformed", "other_line": 0},
        ]
    assert in_segment(live, "vip", members) == members
    told = segments(live, "import", "vip", str(file)).stdout
    assert "3 members of 4,506 lines are in the segment vip, 0 of them new" in told
    assert "4,500 left out: no member" in told
    assert "and 4,483 more; --json has them all" in told


def test_members_are_taken_out_by_a_list_of_one_in_each_line(
    live: Connection, members: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "some.txt"
    file.write_text("\n".join(members))
    assert segments(live, "import", "press", str(file)).returncode == 0
    file.write_text("\r\n".join([*members[1:], "nobody"]))
    for _ in range(2):
        done = segments(live, "import", "press", str(file), "--remove")
        assert "3 members of 3 lines are not in the segment press" in done.stdout
    assert in_segment(live, "press", members) == members[:1]


@pytest.mark.parametrize(
    ("content", "code", "sentence"),
    [
        (b"name;town\n", 2, "has no member ids"),
        (b"", 1, "is empty"),
        (b"PK\x03\x04", 1, "a spreadsheet; save it as CSV"),
        (b"m-1\nZo\xeb\n", 1, "line 2, is not in UTF-8"),
    ],
)
def test_a_file_that_is_no_list_of_members_is_told_in_a_sentence(
    live: Connection, tmp_path: Path, content: bytes, code: int, sentence: str
) -> None:
    file = tmp_path / "list.csv"
    file.write_bytes(content)
    done = segments(live, "import", "odd", str(file))
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_segment_that_cannot_be_is_told_in_a_sentence(live: Connection, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("m-1\n")
    done = segments(live, "import", "No Segment", str(file))
    assert (done.returncode, "segment" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
