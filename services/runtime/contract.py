"""What the contract says, read from the generated descriptors: services, methods, scopes, the descriptor set."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2
from loyalty.ledger.v1 import ledger_service_pb2
from loyalty.notifier.v1 import checkout_service_pb2, coupon_pb2, notifier_service_pb2
from loyalty.tiers.v1 import tier_service_pb2
from loyalty.type.v1 import error_reason_pb2, options_pb2, role_pb2

from services.runtime.identity import Permissions

# Which service of the platform answers which gRPC services.
SERVICES = {
    "ledger": ("loyalty.ledger.v1.LedgerService",),
    "tiers": ("loyalty.tiers.v1.TierService",),
    "notifier": (
        "loyalty.notifier.v1.NotifierService",
        "loyalty.notifier.v1.RewardService",
        "loyalty.notifier.v1.CheckoutService",
    ),
}

FILES: tuple[FileDescriptor, ...] = (
    ledger_service_pb2.DESCRIPTOR,
    tier_service_pb2.DESCRIPTOR,
    coupon_pb2.DESCRIPTOR,
    checkout_service_pb2.DESCRIPTOR,
    notifier_service_pb2.DESCRIPTOR,
    error_reason_pb2.DESCRIPTOR,
    role_pb2.DESCRIPTOR,
    # Envoy writes error details as JSON only if it knows their types.
    error_details_pb2.DESCRIPTOR,
)


class ContractError(Exception):
    """The contract lacks something that a service needs to start."""


def descriptor_set() -> bytes:
    """The FileDescriptorSet of the whole contract with all it imports, each file after its imports."""
    files = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(files.file.add())

    for file in FILES:
        add(file)
    return files.SerializeToString(deterministic=True)


def roles() -> dict[str, frozenset[str]]:
    """The scopes that each role opens, by its name in small letters: "pos"."""
    return {
        value.name.removeprefix("ROLE_").lower(): frozenset(value.GetOptions().Extensions[options_pb2.scopes])  # type: ignore[index]  # as below
        for value in role_pb2.Role.DESCRIPTOR.values
        if value.number
    }


def permissions(services: Iterable[str]) -> Permissions:
    """Who may call the methods of some gRPC services; a method that names no scope is an error."""
    names = tuple(services)
    return Permissions(scopes=scopes(names), callers=_callers(names))


def _callers(services: Iterable[str]) -> dict[str, frozenset[str]]:
    wanted = set(services)
    return {
        f"/{service.full_name}/{method.name}": frozenset(method.GetOptions().Extensions[options_pb2.callers])  # type: ignore[index]  # as below
        for file in FILES
        for service in file.services_by_name.values()
        if service.full_name in wanted
        for method in service.methods
    }


def scopes(services: Iterable[str]) -> dict[str, str]:
    """The scope each method needs, by its path "/package.Service/Method"; a method that names none is an error."""
    found: dict[str, str] = {}
    wanted = set(services)
    for file in FILES:
        for service in file.services_by_name.values():
            if service.full_name not in wanted:
                continue
            wanted.discard(service.full_name)
            for method in service.methods:
                scope: str = method.GetOptions().Extensions[options_pb2.scope]  # type: ignore[index]  # the stub lacks its type
                if not scope:
                    raise ContractError(
                        f"the method {method.full_name} names no scope; a service with it does not start"
                    )
                found[f"/{service.full_name}/{method.name}"] = scope
    if wanted:
        raise ContractError(f"the contract has no service {', '.join(sorted(wanted))}")
    return found
