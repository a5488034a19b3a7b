"""The table from local services to what each audience is offered, kept up to date change by change.

It applies `policy.decide` to each service, settles who gets a name that two want, and writes what changed
through the `Gate` into the catalog. It knows no streams: who has one moves it when the policy changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from hamlet_core.api import Batch, FederatedService, HamletError, LocalService, PublishRoute, Snapshot, Upsert
from hamlet_core.publish.catalog import Catalog, Payload
from hamlet_core.publish.gate import Gate, Offer
from hamlet_core.publish.policy import Decision, Policy, Published, audience_of, decide, fits, names_of


class Problem(NamedTuple):
    """A service that a rule would publish and that is not, or not to all, and why."""

    registry: str
    service: str
    reason: str


class _Claim(NamedTuple):
    """A local service wants a published name in an audience. The order of claims says who gets it.

    No two claims share the first four fields, so services are never compared.
    """

    rule: int
    precedence: int
    local_name: str
    registry: str
    service: FederatedService
    routes: tuple[PublishRoute, ...]


def _offer(claim: _Claim) -> Offer:
    """What goes through the gate of a claim that won."""
    return Offer(claim.service, claim.routes, (claim.precedence, claim.local_name))


_Key = tuple[str, str]
"""Registry and name of a local service."""


class Publication:
    """What is published of all registries, and to whom; `catalog` always holds exactly that.

    All times have a zone. After `set_policy` the owner of the streams calls
    `subscription.move(publication.audience(peer))` on each: an audience that no peer belongs to any
    more stands still until its last stream has moved away.
    """

    def __init__(self, policy: Policy, catalog: Catalog, now: datetime) -> None:
        self.gate = Gate(catalog)
        self._services: dict[str, dict[str, LocalService]] = {}
        self._complete: set[str] = set()
        self._names: Counter[str] = Counter()
        self._now = now
        self._policy = policy
        self._adopt(policy, now)

    # --- what changes it -------------------------------------------------------------------------

    def observe(self, registry: str, batch: Batch, now: datetime) -> bool:
        """Take what a registry reports; True when `local_names` changed.

        Only the services that differ from what was known are looked at. `HamletError` for a registry
        that the policy does not have.
        """
        if registry not in self._policy.registries:
            known = ", ".join(self._policy.registries)
            message = f"registry {registry!r} is none of the configured ones ({known})"
            raise HamletError(message, mend="stop its watch before the policy without it is set")
        self.tick(now)
        standing = self._services.setdefault(registry, {})
        changed = False
        if isinstance(batch, Snapshot):
            self._complete.add(registry)
            services = {service.name: service for service in batch.services}
            for name in [name for name in standing if name not in services]:
                changed |= self._remove(registry, name)
            for service in services.values():
                changed |= self._upsert(registry, service)
            return changed
        for change in batch:
            if isinstance(change, Upsert):
                changed |= self._upsert(registry, change.service)
            else:
                changed |= self._remove(registry, change.name)
        return changed

    def forget_registry(self, registry: str) -> bool:
        """Withdraw everything of a registry, which counts as one that has said nothing yet; as `observe`."""
        changed = False
        for name in list(self._services.get(registry, {})):
            changed |= self._remove(registry, name)
        self._services.pop(registry, None)
        self._complete.discard(registry)
        return changed

    def set_policy(self, policy: Policy, now: datetime) -> bool:
        """Publish by another policy: everything is decided anew, and only what differs is written.

        What registries that the policy does not have reported is forgotten. True when `local_names` changed.
        """
        for registry in set(self._services) - set(policy.registries):
            del self._services[registry]
        self._complete.intersection_update(policy.registries)
        names, retired = set(self._names), set(self._claims)
        self._adopt(policy, now)
        for audience in retired - set(self._claims):
            self.gate.retire(audience)
        return names != set(self._names)

    def tick(self, now: datetime) -> None:
        """Follow the clock: rules begin and end. Nothing is looked at but what a changed rule selects."""
        before, self._now = self._now, now
        rules = [rule for rule in self._policy.rules if rule.active(before) != rule.active(now)]
        if not rules:
            return
        for registry, services in self._services.items():
            for service in services.values():
                if any(fits(rule.select, service, registry) for rule in rules):
                    self._decide(registry, service)

    # --- what it says ----------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether all is known that is to be published: before, silence would read as an empty catalog.

        Every registry has given a snapshot, and the gateway has said what it leads to of that.
        """
        return self.complete and (self.gate.opened or not self._policy.gated)

    @property
    def complete(self) -> bool:
        """Whether every registry has given a snapshot."""
        return self._complete.issuperset(self._policy.registries)

    def next_boundary(self, now: datetime) -> datetime | None:
        """When `tick` is to be called at the latest: the next time after `now` that a rule begins or ends."""
        times = (time for rule in self._policy.rules for time in (rule.from_, rule.until))
        return min((time for time in times if time is not None and time > now), default=None)

    def audience(self, peer: str) -> str:
        """The audience whose log a stream of `peer` reads; an empty one for a peer that nothing is for."""
        return audience_of(self._policy, peer)

    def local_names(self) -> AbstractSet[str]:
        """All names that local services have, here or as published: a live view, no import may take one.

        See `policy.names_of` for which these are.
        """
        return self._names.keys()

    @property
    def views(self) -> dict[str, dict[str, FederatedService]]:
        """Per peer what it is offered, by name. Made on demand; peers of one audience share the inner one."""
        views = {
            audience: {name: claims[0].service for name, claims in names.items()}
            for audience, names in self._claims.items()
        }
        return {peer: views[self.audience(peer)] for peer in self._policy.peers}

    def waits(self, peer: str, name: str) -> str:
        """Why `peer` is not offered `name` in the form it should have, or an empty string."""
        return self.gate.waiting(self.audience(peer), name)

    def problems(self) -> tuple[Problem, ...]:
        """What a rule would publish and cannot be, by registry and name. Made on demand."""
        found = {
            Problem(registry, name, f"publish[{problem.rule}]: {problem.reason}")
            for (registry, name), decision in self._decisions.items()
            for problem in decision.problems
        }
        for audience, name in self._contested:
            winner, *losers = self._claims[audience][name]
            reason = f"its published name {name!r} is taken by {winner.local_name!r} of registry {winner.registry!r}"
            found.update(Problem(loser.registry, loser.local_name, reason) for loser in losers)
        found.update(Problem(*each) for each in self.gate.problems())
        precedence = {registry: number for number, registry in enumerate(self._policy.registries)}
        return tuple(sorted(found, key=lambda each: (precedence[each.registry], each.service, each.reason)))

    def preview(self, policy: Policy, now: datetime) -> Publication:
        """What would be published by another policy, of the services there are now; nothing is changed."""
        nothing = Payload(v1alpha1=b"", v1alpha2=b"")
        other = Publication(policy, Catalog(lambda _: nothing), now)
        for registry in set(self._services).intersection(policy.registries):
            other.observe(registry, Snapshot(tuple(self._services[registry].values())), now)
        return other

    # --- the tables ------------------------------------------------------------------------------

    def _adopt(self, policy: Policy, now: datetime) -> None:
        """Build all tables for a policy, then make the catalog hold what they say."""
        self._policy, self._now = policy, now
        audiences: dict[str, str] = {}
        for peer in policy.peers:
            audiences.setdefault(audience_of(policy, peer), peer)
        # One peer of each audience stands for all of it, so that the number of peers costs nothing.
        self._audience_of = {peer: audience for audience, peer in audiences.items()}
        self._deciding = replace(policy, peers=tuple(self._audience_of))
        self._precedence = {registry: number for number, registry in enumerate(policy.registries)}
        self._claims: dict[str, dict[str, tuple[_Claim, ...]]] = {audience: {} for audience in audiences}
        self._contested: set[tuple[str, str]] = set()
        self._decisions: dict[_Key, Decision] = {}
        names: Counter[str] = Counter()
        for registry, services in self._services.items():
            for service in services.values():
                names.update(names_of(service, registry, policy))
                self._claim(registry, service.name, decide(service, registry, self._deciding, now))
        self._names = names
        peers_of: dict[str, list[str]] = {}
        for peer in policy.peers:
            peers_of.setdefault(audience_of(policy, peer), []).append(peer)
        offers = {
            audience: [_offer(standing[0]) for standing in claims.values()]
            for audience, claims in self._claims.items()
        }
        self.gate.replace(offers, peers_of)

    def _upsert(self, registry: str, service: LocalService) -> bool:
        services = self._services[registry]
        before = services.get(service.name)
        if before == service:
            return False
        services[service.name] = service
        changed = self._rename(
            () if before is None else names_of(before, registry, self._policy),
            names_of(service, registry, self._policy),
        )
        self._decide(registry, service)
        return changed

    def _remove(self, registry: str, name: str) -> bool:
        service = self._services[registry].pop(name, None)
        if service is None:
            return False
        self._write(self._unclaim(registry, name))
        return self._rename(names_of(service, registry, self._policy), ())

    def _rename(self, before: Iterable[str], after: Iterable[str]) -> bool:
        """Count the names of a service; True when one came that nobody had, or the last of one went."""
        before, after = set(before), set(after)
        changed = any(name not in self._names for name in after)
        self._names.update(after)
        for name in before:
            self._names[name] -= 1
            if not self._names[name]:
                del self._names[name]
                changed = True
        return changed

    def _decide(self, registry: str, service: LocalService) -> None:
        decision = decide(service, registry, self._deciding, self._now)
        left = self._unclaim(registry, service.name)
        self._write([*self._claim(registry, service.name, decision), *left])

    def _wanted(self, decision: Decision) -> Iterator[tuple[str, int, Published]]:
        """The audiences of a decision, the rule of each, and the form it gets."""
        for form in decision.published:
            for peer, rule in form.rules.items():
                yield self._audience_of[peer], rule, form

    def _claim(self, registry: str, local_name: str, decision: Decision) -> list[tuple[str, str]]:
        """Enter a service's claims; the audiences and names they are about."""
        touched = []
        if decision.published or decision.problems:
            self._decisions[registry, local_name] = decision
        for audience, rule, form in self._wanted(decision):
            service = form.service
            claim = _Claim(rule, self._precedence[registry], local_name, registry, service, form.routes)
            claims = self._claims[audience]
            standing = claims.get(service.name, ())
            claims[service.name] = tuple(sorted((*standing, claim)))
            if standing:
                self._contested.add((audience, service.name))
            touched.append((audience, service.name))
        return touched

    def _unclaim(self, registry: str, local_name: str) -> list[tuple[str, str]]:
        """Take a service's claims out; the audiences and names they were about."""
        touched = []
        decision = self._decisions.pop((registry, local_name), Decision())
        for audience, _, form in self._wanted(decision):
            service = form.service
            claims = self._claims[audience]
            left = tuple(
                claim
                for claim in claims.pop(service.name)
                if (claim.registry, claim.local_name) != (registry, local_name)
            )
            if left:
                claims[service.name] = left
            if len(left) < 2:
                self._contested.discard((audience, service.name))
            touched.append((audience, service.name))
        return touched

    def _write(self, touched: Iterable[tuple[str, str]]) -> None:
        """Make the catalog hold what the claims say about these names; equal states write nothing."""
        for audience, name in dict.fromkeys(touched):
            claims = self._claims[audience].get(name)
            if claims:
                self.gate.put(audience, _offer(claims[0]))
            else:
                self.gate.remove(audience, name)
