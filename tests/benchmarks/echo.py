"""A reference: a bare grpc.aio server that answers with what it got. `python -m tests.benchmarks.echo`

It has the ledger's event loop and message limits, reads and writes real messages, and has no interceptor, no health, no
log. It answers under the services' own method names, so that the client is the same to the byte.
"""

from __future__ import annotations

import os
from typing import Any

import grpc
import uvloop
from loyalty.ledger.v1 import ledger_service_pb2 as pb
from loyalty.tiers.v1 import tier_service_pb2

from services.runtime.channels import MAX_MESSAGE_BYTES

SERVICE = "loyalty.ledger.v1.LedgerService"
TIER_SERVICE = "loyalty.tiers.v1.TierService"


async def _echo(request: Any, context: Any) -> Any:
    return request


async def _echo_stream(requests: Any, context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(request)


async def serve(address: str) -> None:
    """Answers until the process is told to end."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    handlers: dict[str, Any] = {
        "RecordPurchase": grpc.unary_unary_rpc_method_handler(
            _echo,
            request_deserializer=pb.RecordPurchaseRequest.FromString,
            response_serializer=pb.RecordPurchaseRequest.SerializeToString,
        ),
        "RecordStream": grpc.stream_stream_rpc_method_handler(
            _echo_stream,
            request_deserializer=pb.RecordStreamRequest.FromString,
            response_serializer=pb.RecordStreamRequest.SerializeToString,
        ),
    }
    reads: dict[str, Any] = {
        "GetStanding": grpc.unary_unary_rpc_method_handler(
            _echo,
            request_deserializer=tier_service_pb2.GetStandingRequest.FromString,
            response_serializer=tier_service_pb2.GetStandingRequest.SerializeToString,
        ),
    }
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(SERVICE, handlers),
            grpc.method_handlers_generic_handler(TIER_SERVICE, reads),
        )
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(os.environ["LOYALTY_LISTEN"]))
