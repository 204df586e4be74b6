"""Messages of any contract, looked at by their fields."""

from __future__ import annotations

from google.protobuf.message import Message


def first_difference(before: Message, after: Message) -> str:
    """The name of the first field in which two messages of one type differ, by the order of the contract."""
    had, has = ({field.name: value for field, value in message.ListFields()} for message in (before, after))
    for field in after.DESCRIPTOR.fields:
        if had.get(field.name) != has.get(field.name):
            return str(field.name)
    return "an unknown field"
