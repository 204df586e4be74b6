"""Ways through a document's content as it was read, whatever its shape has wrong."""

from __future__ import annotations

from collections.abc import Iterator


def at(content: object, *path: str) -> object:
    """What stands at a path of keys; None where there is no such thing."""
    for step in path:
        content = content.get(step) if isinstance(content, dict) else None
    return content


def mappings(content: object, *path: str) -> Iterator[tuple[int, dict[str, object]]]:
    """The mappings in the list at `path`, with their positions; nothing where there is no list."""
    items = at(content, *path)
    for index, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, dict):
            yield index, item


def repeated(items: object) -> Iterator[tuple[int, str]]:
    """The texts of a list that stand before in it, too, with their positions; nothing where there is no list."""
    seen: set[str] = set()
    for position, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, str):
            if item in seen:
                yield position, item
            seen.add(item)
