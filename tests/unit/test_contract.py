"""The contract and what is written about it."""

from __future__ import annotations

import re

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message
from loyalty.ledger.v1 import ledger_service_pb2
from loyalty.notifier.v1 import checkout_service_pb2, coupon_pb2
from loyalty.type.v1 import error_reason_pb2

from services.ledger.domain.events import Account, EntryKind
from services.ledger.errors import (
    REFUSAL_MESSAGES,
    PoisonedError,
    Refusal,
    RefusedError,
    RejectedError,
    RequestIdReusedError,
)
from services.ledger.rpc import describe
from services.runtime import contract
from services.runtime.interceptors import PATTERNS, RequestValidator
from tests.conftest import ROOT

REASONS = {
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118  # the wrapper is no mapping
    if name != "ERROR_REASON_UNSPECIFIED"
}


def test_the_table_of_errors_lists_every_reason_of_the_contract_and_no_other() -> None:
    table = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert sorted(table) == sorted(REASONS)


def test_every_reason_that_the_code_gives_is_in_the_contract() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    given = set(re.findall(r'reason="([A-Z_]+)"', code)) | {refusal.value for refusal in Refusal}
    given.discard("CANCELLED")  # logged, never sent: the caller is gone
    assert given <= REASONS
    assert set(REFUSAL_MESSAGES) == set(Refusal)


def test_every_error_of_the_ledger_has_the_code_of_the_table_and_refusals_alone_are_kept() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \| (yes|no) \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE
    )
    table = {reason: (code, kept) for reason, code, kept in rows}
    for refusal in Refusal:
        status = describe(RefusedError(refusal))
        assert status is not None
        assert table[refusal] == (status.code.name, "yes")
    refusals = {refusal.value for refusal in Refusal}
    for error in [*RejectedError.__subclasses__(), PoisonedError]:
        if error is RequestIdReusedError:
            status = describe(RequestIdReusedError(kept=b"AwardPoints\0", sent=b"RecordReturn\0"))
        else:
            status = describe(error())
        assert status is not None, error
        # A read finds no purchase of that id either, and keeps nothing.
        assert table[status.reason] == (status.code.name, "yes" if status.reason in refusals else "no")


@pytest.mark.parametrize("service", sorted(contract.SERVICES))
def test_every_method_names_a_scope_and_every_unary_method_a_path(service: str) -> None:
    assert len(contract.scopes(contract.SERVICES[service])) > 0
    files = descriptor_pb2.FileDescriptorSet.FromString(contract.descriptor_set())
    for file in files.file:
        for declared in file.service:
            if f"{file.package}.{declared.name}" not in contract.SERVICES[service]:
                continue
            for method in declared.method:
                assert method.server_streaming or method.options.HasExtension(annotations_pb2.http), method.name


def test_a_till_may_not_list_members_read_contacts_or_change_what_it_does_not_sell() -> None:
    opened = contract.roles()["pos"]
    scopes = {path: scope for names in contract.SERVICES.values() for path, scope in contract.scopes(names).items()}
    refused = {path.rpartition("/")[2] for path, scope in scopes.items() if scope not in opened}
    # A new method is here, or a till may call it: that is decided by whoever adds it.
    assert refused == {
        *("AdjustPoints", "AwardPoints", "SetEarningClass", "SetTierOverride", "ClearTierOverride"),
        *("ListStandings", "CountStandings", "SetContact", "ListDeliveries"),
        *("GetContact", "SetPreferences", "GetPreferences", "Unsubscribe", "RecordBounce"),
        *("RetryDelivery", "ListDeadLetters"),
        *("CreateWebhookEndpoint", "ListWebhookEndpoints", "DeleteWebhookEndpoint"),
        *("EnableWebhookEndpoint", "RotateWebhookEndpointSecret"),
        *("IssueCoupon", "ImportCodes", "VoidCoupon", "ReverseReward", "GetCouponLosses"),
        *("ListCampaigns", "PreviewCampaign", "PauseCampaign", "ResumeCampaign", "UpdateSegment"),
        "GetSurveyResults",
        *("EraseMember", "ExportMember", "GrantGoodwill"),
        *("ApplyProgramme", "PreviewProgramme", "AdvanceClock", "GetLiability", "ListPartitions"),
        *("StreamEntries", "StreamTierChanges"),
    }


@pytest.mark.parametrize("service", ["notifier", "tiers"])
def test_what_a_service_asks_of_others_is_open_to_its_certificate(service: str) -> None:
    opened = {
        path.rpartition("/")[2]
        for other in ("ledger", "tiers")
        for path, callers in contract.permissions(contract.SERVICES[other]).callers.items()
        if service in callers
    }
    clients = (ROOT / "services" / service).glob("*_client.py")
    calls = re.compile(r"self\._(?:ledger|tiers|stub)\.([A-Z]\w+)")
    asked = {name for path in clients for name in calls.findall(path.read_text())}
    # A batch asks for what each of its writes is.
    asked |= {"CaptureHold", "RecordPurchase"} if service == "notifier" else {"SetEarningClass"}
    assert len(asked) >= 4
    assert asked <= opened


def test_a_service_unknown_to_the_contract_does_not_start() -> None:
    with pytest.raises(contract.ContractError, match="no service"):
        contract.scopes(["loyalty.ledger.v1.NoService"])


def test_kinds_and_accounts_of_the_domain_are_those_of_the_contract() -> None:
    from loyalty.ledger.v1 import entry_pb2

    assert {f"ENTRY_KIND_{kind.value}" for kind in EntryKind} | {"ENTRY_KIND_UNSPECIFIED"} == set(
        entry_pb2.EntryKind.keys()
    )
    assert {f"ACCOUNT_{account.name}" for account in Account} | {"ACCOUNT_UNSPECIFIED"} == set(entry_pb2.Account.keys())


def test_the_descriptor_set_holds_every_file_after_its_imports() -> None:
    seen: set[str] = set()
    for file in descriptor_pb2.FileDescriptorSet.FromString(contract.descriptor_set()).file:
        assert set(file.dependency) <= seen, file.name
        seen.add(file.name)
    assert "google/rpc/error_details.proto" in seen
    assert ledger_service_pb2.DESCRIPTOR.name in seen


def test_what_is_missing_is_named_by_the_fields_that_can_be_given() -> None:
    validator = RequestValidator()

    def problems(message: Message) -> dict[str, str]:
        status = validator.check(message)
        assert status is not None
        return dict(status.fields)

    basket = checkout_service_pb2.QuoteCheckoutRequest(currency_code="PLN")
    basket.lines.add()
    assert problems(basket) == {
        "member_id": "one of member_id, identifier must be given",
        "lines[0].unit_price_minor_units": "one of unit_price_minor_units, amount_minor_units must be given",
    }
    reverse = coupon_pb2.ReverseRewardRequest(request_id="r", member_id="m", reason="x")
    assert problems(reverse) == {"coupon_code": "one of coupon_code, redemption_id must be given"}
    codes = coupon_pb2.ImportCodesRequest(request_id="r", pool="p", import_id="i", first_line=1)
    assert problems(codes) == {"codes": "must not be empty"}
    codes.codes.extend(["A"] * 10_001)
    assert problems(codes) == {"codes": "must have at most 10,000"}


def test_every_pattern_of_the_contract_has_words_for_people() -> None:
    texts = "\n".join(path.read_text() for path in (ROOT / "protos").rglob("*.proto"))
    patterns = {found.replace("\\\\", "\\") for found in re.findall(r'pattern(?: =|:) "((?:[^"\\]|\\.)*)"', texts)}
    assert patterns == set(PATTERNS)
