"""The diff between what a registry should hold and what it holds of ours. Pure: two tables in, changes out."""

from __future__ import annotations

from collections.abc import Mapping

from hamlet_core.api import ImportChange, ImportedService, ImportKey, RemoveImport, StandingImport, WriteImport


def plan(
    desired: Mapping[ImportKey, ImportedService], standing: Mapping[ImportKey, StandingImport]
) -> tuple[ImportChange, ...]:
    """The changes that make `standing` into `desired`.

    An entry is written when it is missing or its digest differs. An entry whose local name changed is
    removed and written again. Order: removals that hand a name over, so that it is free when its new
    holder is written; then writes; then the other removals. Each group is sorted by key, so that equal
    tables give equal plans.
    """
    writes: list[ImportChange] = []
    removals = [RemoveImport(key, standing[key].local_name) for key in standing.keys() - desired.keys()]
    for key, wanted in desired.items():
        stands = standing.get(key)
        if stands is not None and stands.local_name != wanted.local_name:
            removals.append(RemoveImport(key, stands.local_name))
            stands = None
        if stands is None or stands.digest != wanted.digest:
            writes.append(WriteImport(wanted))
    written = {change.key for change in writes}
    taken = {wanted.local_name for wanted in desired.values()}
    removals.sort(key=lambda change: change.key)
    writes.sort(key=lambda change: change.key)
    first = [change for change in removals if change.key in written or change.local_name in taken]
    last = [change for change in removals if not (change.key in written or change.local_name in taken)]
    return (*first, *writes, *last)
