"""Validation carved from training by whole groups, the same groups whatever the order of the rows.

Groups that share something (a picture, a near-duplicate) are one unit, so that no leak arises between the two parts.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from grandrounds.domain.copies import Pair
from grandrounds.records import Question


def carve(train: Sequence[Question], pairs: Iterable[Pair], size: float, seed: int) -> set[str]:
    """The groups of train that become validation: of at least `size` questions, or that share of them below 1.

    Units are taken in the order of a hash of seed and name until there are enough; at least one is left in training.
    A further group changes no other's place. `pairs`: near-duplicates by question id or picture name; those with
    neither in train are ignored.
    """
    wanted = size if size >= 1 else size * len(train)
    if not wanted:
        return set()
    unit = _units(train, pairs)
    members: dict[str, int] = {}
    for question in train:
        members[unit[question.group]] = members.get(unit[question.group], 0) + 1
    order = sorted(members, key=lambda name: blake2b(f"{seed}/{name}".encode()).digest())
    chosen: set[str] = set()
    count = 0
    for name in order[:-1]:
        if count >= wanted:
            break
        chosen.add(name)
        count += members[name]
    return {group for group, name in unit.items() if name in chosen}


def _units(train: Sequence[Question], pairs: Iterable[Pair]) -> dict[str, str]:
    """Group -> the least name among the groups that hang together with it."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = sorted({question.group for question in train})
    number = {name: place for place, name in enumerate(names)}
    holders: dict[str, list[int]] = {}  # of a question id, and of a picture
    for question in train:
        for thing in {question.id, *question.images}:
            holders.setdefault(thing, []).append(number[question.group])
    edges = [(first, other) for first, *others in holders.values() for other in others]
    edges += [(holders[p.first][0], holders[p.second][0]) for p in pairs if p.first in holders and p.second in holders]
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(names), len(names)))
    _, label = connected_components(graph, directed=False)
    least: dict[int, str] = {}
    for name, each in zip(names, label.tolist(), strict=True):
        least.setdefault(each, name)
    return {name: least[each] for name, each in zip(names, label.tolist(), strict=True)}
