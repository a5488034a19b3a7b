"""The sections of hamlet.yaml that a plugin reads: `kind` names it, and all keys but ours are its own options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hamlet_core.config.values import Inconsistent, ReachableHostPort


class _Driven(BaseModel):
    """What all of them share."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the adapter."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> Iterator[tuple[str, object]]:
        """Name the options without their values: only the adapter knows which of them are secrets."""
        yield from ((name, getattr(self, name)) for name in type(self).model_fields)
        yield "options", sorted(self.options)


class Registry(_Driven):
    """A local registry: `kind` names its adapter, all other keys are the adapter's own options."""

    kind: str = Field(
        min_length=1, description="Adapter kind, for example file, consul or istio; `hamlet plugins` lists them."
    )


STATIC = "static"
"""The kind of a gateway that no plugin drives."""


class Gateway(_Driven):
    """How calls enter and leave this mesh: `kind` names what drives the gateway, all other keys are its options.

    Kind static is an ingress that someone else runs: `endpoints` and `sans` say how it is reached.
    """

    kind: str = Field(
        default=STATIC,
        min_length=1,
        description="static, or the kind of a gateway plugin, for example envoy; `hamlet plugins` lists them.",
    )
    endpoints: tuple[ReachableHostPort, ...] = Field(
        default=(), description="Kind static: host:port of the ingress, one or several."
    )
    sans: tuple[str, ...] = Field(
        default=(),
        description="Kind static: names that the ingress's certificate presents, SPIFFE IDs or DNS names.",
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Gateway:
        own = {key: getattr(self, key) for key in ("endpoints", "sans")}
        if self.static:
            problems = [((key,), "must not be empty for a gateway of kind static") for key in own if not own[key]]
            problems += [((key,), f"is no key of a gateway of kind {STATIC}") for key in self.options]
        else:
            problems = [((key,), f"belongs to kind {STATIC}: {self.kind} finds it out") for key in own if own[key]]
        if problems:
            raise Inconsistent(tuple(problems))
        return self

    @property
    def static(self) -> bool:
        """Whether no plugin drives it."""
        return self.kind == STATIC


class Egress(_Driven):
    """What leads calls out of this mesh: `kind` names the plugin, all other keys are its own options."""

    kind: str = Field(min_length=1, description="Kind of a gateway plugin; `hamlet plugins` lists them.")


class Coordinator(_Driven):
    """Which one of several agents of this mesh leads: `kind` names the plugin, all other keys are its own options.

    The others stand by, and one of them takes over when it ends. All of them name the same backend.
    """

    kind: str = Field(
        min_length=1,
        description="Kind of a coordinator plugin, for example file, consul or istio; `hamlet plugins` lists them.",
    )
