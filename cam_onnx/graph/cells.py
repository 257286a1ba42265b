"""Reshapes that split axes into factors and put them together again, as far as roles stay known.

Patch merging, window partition and attention's heads are written so: a grid's axis of 56 becomes 28 cells of 2, and the
2 goes to the channels. The outer factor is the grid's coarser axis; what lies within a cell has the role "d" and the
axis's number, until it is channels or stands beside its cells again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["WITHIN", "regrouped"]

WITHIN = "d"

Dim = int | str | None


def regrouped(roles: Sequence[str], given: Sequence[Dim], taken: Sequence[Dim]) -> tuple[str, ...] | None:
    """Return the roles behind a reshape from `given` to `taken`, None where they are not known."""
    found: list[str] = []
    for before, after in _groups(given, taken):
        sources = [roles[i] for i in before]
        made = _joined(sources) if len(after) == 1 else _split(sources, len(after))
        if made is None:
            return None
        found += made
    return tuple(found) if found and len(found) == len(taken) else None


def _groups(given: Sequence[Dim], taken: Sequence[Dim]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest runs of axes that hold equally many entries; ends early where sizes do not say.

    One size of each side may be a symbol of another name than its counterpart's: the rest says that it is the same.
    """
    one_open = all(sum(not isinstance(size, int) for size in sizes) == 1 for sizes in (given, taken))
    i = j = 0
    while i < len(given) and j < len(taken):
        a, b = given[i], taken[j]
        before, after = [i], [j]
        i, j = i + 1, j + 1
        if not (isinstance(a, int) and isinstance(b, int)):
            if not (one_open or (a is not None and a == b)) or isinstance(a, int) or isinstance(b, int):
                return
            yield before, after
            continue
        while a != b:
            sizes, at = (given, i) if a < b else (taken, j)
            more = sizes[at] if at < len(sizes) else None
            if not isinstance(more, int):
                return
            if a < b:
                before, i, a = [*before, i], i + 1, a * more
            else:
                after, j, b = [*after, j], j + 1, b * more
        yield before, after


def _split(sources: Sequence[str], count: int) -> list[str] | None:
    if len(sources) != 1:
        return None
    [role] = sources
    if role == "c" or role.startswith(WITHIN):
        return [role] * count
    return [role, *[WITHIN + role[1:]] * (count - 1)] if role.startswith("s") else None


def _joined(sources: Sequence[str]) -> list[str] | None:
    if len(sources) == 1:
        return list(sources)
    if "c" in sources and all(role == "c" or role.startswith(WITHIN) for role in sources):
        return ["c"]
    cells = sources[0].startswith("s") and set(sources[1:]) == {WITHIN + sources[0][1:]}
    return list(sources[:1]) if cells else None
