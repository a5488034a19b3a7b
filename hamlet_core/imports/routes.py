"""What the gateway said of each import, and for which content it said it. A table; it calls no gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hamlet_core.api import FederatedService, ImportAnswer, ImportKey, ImportRoute


class Routes:
    """The answers of the gateway by import; `due` says that it has not heard of everything yet.

    `required` is False where no gateway has to be asked: imports then have no route.
    """

    def __init__(self, *, required: bool) -> None:
        self.required = required
        self.due = required
        self._answers: dict[ImportKey, tuple[FederatedService, ImportAnswer]] = {}

    def of(self, key: ImportKey, service: FederatedService) -> ImportAnswer | None:
        """What the gateway said of `service`, just as it is; None when it has not said yet."""
        known = self._answers.get(key)
        return known[1] if known is not None and known[0] == service else None

    def change(self) -> None:
        """Some import is new, other than it was, or gone: the gateway must hear of it."""
        self.due = self.required

    def take(
        self, asked: Mapping[ImportKey, ImportRoute], answers: Mapping[ImportKey, ImportAnswer]
    ) -> list[ImportKey]:
        """Keep the answers about `asked`, and nothing else; returns the keys of which it is no longer as it was.

        Among them are those not asked about any more: the gateway has let go of them meanwhile.
        """
        known = {key: (route.service, answers[key]) for key, route in asked.items()}
        changed = [key for key in {**self._answers, **known} if self._answers.get(key) != known.get(key)]
        self._answers = known
        return changed

    def shared(self) -> Iterator[object]:
        """The answers that a copy of this table need not copy, as they never change."""
        return (answer for _, answer in self._answers.values())
