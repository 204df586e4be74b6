"""A scene at a till, made up, through the gateway's HTTP: join, buy, buy again and rise, bring back and fall.

Every call is shown as a terminal would send it. The business clock of the folder is moved by a minute between the
steps, because only what happens later than joining counts.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.client
import json
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from services.cli.errors import CommandError
from services.cli.installation import Connection
from services.programme import Programme, format_percent

MEMBER: Final = "ada"
ADDRESS: Final = "ada@example.com"
PRINCIPAL: Final = "till-7"

_STORE = "17"
_FIRST: Final = 29_500
_SECOND: Final = 1_000
_CALL_SECONDS = 30.0
_MAIL_SECONDS = 60.0
_POLL_SECONDS = 0.1


class Gateway:
    """The gateway's HTTP, as a principal."""

    def __init__(self, connection: Connection, *, principal: str) -> None:
        split = urlsplit(connection.gateway)
        assert split.hostname is not None
        self._http = http.client.HTTPConnection(split.hostname, split.port, timeout=_CALL_SECONDS)
        self._headers = {
            "authorization": connection.authorization(principal),
            "content-type": "application/json",
        }

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a call; raises CommandError for one that is not well."""
        try:
            self._http.request(method, path, None if body is None else json.dumps(body).encode(), self._headers)
            response = self._http.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CommandError(
                f"{method} {path}: the gateway did not answer: {error or type(error).__name__}"
            ) from None
        if response.status != http.client.OK:
            raise CommandError(f"{method} {path}: {answer.get('message', 'refused')} (HTTP {response.status})")
        assert isinstance(answer, dict)
        return answer


@contextlib.contextmanager
def gateway(connection: Connection, *, principal: str) -> Iterator[Gateway]:
    """The gateway of a running stack."""
    made = Gateway(connection, principal=principal)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the scene came to: the tiers held after each step, and points available at the end."""

    tiers: tuple[str, ...]
    points: int
    mail_subject: str
    mail_text: str


class Scene:
    """Plays the scene once, in an installation by retail-demo whose clock may be moved."""

    def __init__(self, connection: Connection, programme: Programme, console: Console) -> None:
        self._connection = connection
        self._programme = programme
        self._console = console
        self._width = min(console.width, 100)

    def play(self, opens: datetime) -> Outcome:
        """Plays it from an instant on; raises CommandError where a step does not end as it should."""
        with gateway(self._connection, principal=PRINCIPAL) as self._gateway:
            return self._play(opens)

    def _play(self, opens: datetime) -> Outcome:
        self._now = opens
        self._clock(opens)

        self._step(1, "Ada joins.")
        joined = self._call("POST", "/v1/members", {"request_id": "till-7/1", "member_id": MEMBER, "channel": "pos"})
        self._receipt(joined["receipt"])
        self._call(
            "PUT",
            f"/v1/members/{MEMBER}/contact",
            {"request_id": "till-7/2", "contact": {"name": "Ada", "email": ADDRESS}},
        )
        self._tick()

        self._step(2, f"Ada buys for {self._money(_FIRST)}.")
        first = self._call(
            "POST", f"/v1/members/{MEMBER}/purchases", self._purchase("till-7/3", "7-1001", _FIRST, "COAT")
        )
        self._receipt(first["receipt"])
        tiers = [self._standing(first["causal_token"], expected=0)]
        self._tick()

        self._step(3, f"Ada buys for {self._money(_SECOND)}: enough for the next tier, at once.")
        second = self._call(
            "POST", f"/v1/members/{MEMBER}/purchases", self._purchase("till-7/4", "7-1002", _SECOND, "SCARF")
        )
        self._receipt(second["receipt"])
        tiers.append(self._standing(second["causal_token"], expected=1))
        mail = self._mail(second["causal_token"])
        self._tick()

        self._step(4, f"Ada brings back what was {self._money(_SECOND)}.")
        back = self._purchase("till-7/5", "7-1002", _SECOND, "SCARF") | {"reason": "wrong_size"}
        returned = self._call("POST", f"/v1/members/{MEMBER}/returns", back)
        self._receipt(returned["receipt"])
        tiers.append(self._standing(returned["causal_token"], expected=0))
        body = mail.get_body(("plain",))
        return Outcome(
            tiers=tuple(tiers),
            points=int(returned["receipt"]["available_points"]),
            mail_subject=str(mail["subject"]),
            mail_text=str(body.get_content()) if body is not None else "",
        )

    def _purchase(self, request_id: str, purchase_id: str, amount: int, sku: str) -> dict[str, Any]:
        return {
            "request_id": request_id,
            "purchase_id": purchase_id,
            "amount": {"currency_code": self._programme.currency, "minor_units": amount},
            "lines": [{"sku": sku, "quantity": 1, "amount_minor_units": amount}],
            "store_id": _STORE,
        }

    def _tick(self) -> None:
        self._now += timedelta(minutes=1)
        self._clock(self._now)

    def _clock(self, time: datetime) -> None:
        stamp = f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        local = time.astimezone(self._programme.zone)
        self._call("POST", "/v1/clock:advance", {"request_id": f"till-7/clock/{stamp}", "to_time": stamp})
        self._says("clock", f"{local:%Y-%m-%d %H:%M}")

    def _step(self, number: int, sentence: str) -> None:
        self._console.print()
        self._console.print(f"  [bold]{number}  {sentence}[/]")

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._console.print(f"     [cyan]{method}[/] {escape(path)}", soft_wrap=True)
        if body is not None:
            for line in folded(body, self._width - 7):
                self._console.print(f"       {escape(line)}", style="dim", soft_wrap=True)
        return self._gateway.call(method, path, body)

    def _says(self, name: str, text: str) -> None:
        indent = " " * 19
        wrapped = textwrap.wrap(text, self._width - len(indent)) or [""]
        self._console.print(f"     → [bold]{name:<9}[/]  {escape(wrapped[0])}", soft_wrap=True)
        for line in wrapped[1:]:
            self._console.print(indent + escape(line), soft_wrap=True)

    def _receipt(self, receipt: Mapping[str, Any]) -> None:
        points = int(receipt["points"])
        verb = "given" if points >= 0 else "taken back"
        self._says("points", f"{abs(points):,} {verb}, {int(receipt['available_points']):,} available now")
        for rule in receipt["rules"]:
            self._says("rule", f"{rule['rule']} {int(rule['points']):+,}: {rule['reason']}")

    def _standing(self, causal_token: str, *, expected: int) -> str:
        """Shows the standing and says its tier; `expected` is the place of the level it should be."""
        answer = self._call("GET", f"/v1/members/{MEMBER}/standing?causal_token={quote(causal_token)}")
        standing = answer["standing"]
        discount = format_percent(int(standing["discount_basis_points"]))
        self._says(
            "standing",
            f"{standing['tier']}, {self._money(standing['balance']['minor_units'])} in the window, {discount} off",
        )
        missing = standing.get("missing_for_next_tier")
        if missing:
            self._says("missing", f"{self._money(missing['minor_units'])} for {standing['next_tier']}")
        level = self._programme.tiers.levels[expected]
        if standing["tier"] != level.name:
            raise CommandError(f"the scene should have come to {level.name} here, and came to {standing['tier']}")
        return level.name

    def _mail(self, causal_token: str) -> EmailMessage:
        """Waits until the message is delivered, and reads it back from the local mailbox."""
        path = f"/v1/deliveries?member_id={MEMBER}&causal_token={quote(causal_token)}"
        answer = self._call("GET", path)
        deadline = time.monotonic() + _MAIL_SECONDS
        while not answer["deliveries"] or answer["deliveries"][0]["state"] == "DELIVERY_STATE_QUEUED":
            if time.monotonic() > deadline:
                raise CommandError(f"the message was not delivered in {_MAIL_SECONDS:.0f} s")
            time.sleep(_POLL_SECONDS)
            answer = self._gateway.call("GET", path)
        delivery = answer["deliveries"][0]
        self._says(
            "message",
            f"{delivery['state'].removeprefix('DELIVERY_STATE_').lower()}, campaign {delivery['campaign_id']}",
        )
        found = find_mail(self._connection.installation.mailbox, ADDRESS)
        if found is None:
            raise CommandError(f"no mail to {ADDRESS} lies in {self._connection.installation.mailbox}")
        body = found.get_body(("plain",))
        text = str(body.get_content()).strip() if body is not None else ""
        panel = Panel(
            Text(f"To: {found['to']}\nSubject: {found['subject']}\n\n{reflowed(text, self._width - 11)}"),
            title="as it lies in the mailbox",
            title_align="left",
            border_style="green",
        )
        self._console.print(Padding(panel, (0, 0, 0, 7)), width=self._width)
        return found

    def _money(self, minor_units: int | str) -> str:
        return self._programme.format_money(int(minor_units))


def folded(body: Mapping[str, Any], width: int) -> list[str]:
    """A JSON object on as few lines as fit, broken between its fields."""
    lines = ["{"]
    for number, (name, value) in enumerate(body.items()):
        ending = "," if number < len(body) - 1 else "}"
        field = f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}{ending}"
        gap = "" if lines[-1] in ("{", "") else " "
        if len(lines[-1]) + len(gap) + len(field) <= width or lines[-1] == "{":
            lines[-1] += gap + field
        else:
            lines.append(f" {field}")
    return [part for line in lines for part in textwrap.wrap(line, width, break_on_hyphens=False)]


def reflowed(text: str, width: int) -> str:
    """The paragraphs of a text made to fit; one with an indented line is left as it is."""
    return "\n\n".join(
        paragraph if any(line.startswith(" ") for line in paragraph.splitlines()) else textwrap.fill(paragraph, width)
        for paragraph in text.split("\n\n")
    )


def find_mail(mailbox: Path, address: str) -> EmailMessage | None:
    """The newest mail to an address in a Maildir."""
    paths = sorted(
        (path for path in (mailbox / "new").iterdir()), key=lambda path: path.stat().st_mtime_ns, reverse=True
    )
    for path in paths:
        with path.open("rb") as file:
            message = email.message_from_binary_file(file, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        if address in str(message["to"]):
            return message
    return None
