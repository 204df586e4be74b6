"""A caller as a till is one: the same request again until there is an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.ledger.v1 import lot_pb2

_AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


async def until_answered(call: Any, request: Any) -> Any:
    """The answer; a refusal is raised. However often the service is away meanwhile, it is asked again."""
    for _ in range(300):
        try:
            return await call(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _AGAIN:
                raise
            await asyncio.sleep(0.1)  # what a till does between tries
    raise AssertionError("no answer within the time that a restart may take")


async def all_lots(stub: Any, member_id: str) -> list[lot_pb2.Lot]:
    """A member's lots, page by page."""
    lots: list[lot_pb2.Lot] = []
    token = ""
    while True:
        page = await stub.ListLots(pb.ListLotsRequest(member_id=member_id, page_token=token), timeout=30)
        lots += page.lots
        token = page.next_page_token
        if not token:
            return lots


def write(request: Any) -> pb.Write:
    """The request as one of a batch."""
    name = type(request).DESCRIPTOR.name.removesuffix("Request")
    field = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]
    return pb.Write(**{field: request})
