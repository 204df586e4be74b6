"""What the notifier makes of another service's status: a refusal, silence, or that it has yet to catch up."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import status_pb2

from services.notifier.errors import MemberUnknownError, PeerError, PeerRefusedError
from services.notifier.peers import answered, error_of, found, known
from services.runtime.status import DETAILS_KEY, ErrorStatus, NotCaughtUpError

DECIDED = {"NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "ALREADY_EXISTS", "OUT_OF_RANGE"}


def told(code: grpc.StatusCode, reason: str = "SOME_REASON", **metadata: str) -> status_pb2.Status:
    return ErrorStatus(code=code, reason=reason, message="because", metadata=metadata).to_proto()


async def failing(status: status_pb2.Status | None, code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND) -> None:
    details = () if status is None else ((DETAILS_KEY, status.SerializeToString()),)
    raise grpc.aio.AioRpcError(
        code, initial_metadata=grpc.aio.Metadata(), trailing_metadata=grpc.aio.Metadata(*details), details="because"
    )


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_only_what_is_decided_is_a_refusal(code: grpc.StatusCode) -> None:
    error = error_of(told(code))
    assert isinstance(error, PeerRefusedError if code.name in DECIDED else PeerError)


def test_a_refusal_carries_its_code_reason_sentence_and_facts_but_not_that_it_was_given_before() -> None:
    error = error_of(told(grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENOUGH_POINTS", available="7", replayed="true"))
    assert isinstance(error, PeerRefusedError)
    assert (error.code, error.reason, str(error)) == ("FAILED_PRECONDITION", "NOT_ENOUGH_POINTS", "because")
    assert error.metadata == {"available": "7"}


async def test_what_comes_without_a_reason_is_from_nobody_who_decides() -> None:
    with pytest.raises(PeerError, match="NOT_FOUND"):
        await answered(failing(None))


async def test_who_has_yet_to_catch_up_says_so() -> None:
    with pytest.raises(NotCaughtUpError):
        await answered(failing(told(grpc.StatusCode.DEADLINE_EXCEEDED, "NOT_CAUGHT_UP")))


async def test_a_member_that_nobody_knows_is_a_refusal_like_others_except_where_it_is_asked_for() -> None:
    status = told(grpc.StatusCode.NOT_FOUND, "MEMBER_UNKNOWN")
    with pytest.raises(PeerRefusedError):
        await answered(failing(status))
    with pytest.raises(MemberUnknownError):
        await known(failing(status))


async def test_nothing_is_found_only_where_the_reason_says_that_there_is_nothing() -> None:
    status = told(grpc.StatusCode.FAILED_PRECONDITION, "NOT_ENROLLED")
    assert await found(failing(status), "MEMBER_UNKNOWN", "NOT_ENROLLED") is None
    # The same code may mean anything: who is not known to be suspended is not taken for active.
    for other in (status, told(grpc.StatusCode.NOT_FOUND, "PURCHASE_UNKNOWN"), None):
        with pytest.raises(PeerError):
            await found(failing(other), "MEMBER_UNKNOWN")
