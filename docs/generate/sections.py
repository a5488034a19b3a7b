"""The sections of docs/errors.md that have the sentences, in the order in which a person meets them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from docs.generate.messages import Message
from docs.generate.sayers import FINDING, REFUSAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section: its words, and which sentences it takes: of these kinds (all, if none is named) and modules.

    A module is named with all below it. Of several sections that would take a sentence it goes to the one that is
    `first`, or takes it `also` from any module, then to the one that names its module most closely, then to the one
    that names its kind.
    """

    title: str
    about: str
    modules: tuple[str, ...] = ("",)
    kinds: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    first: bool = False

    def claim(self, message: Message) -> tuple[bool, int, bool] | None:
        """How much a sentence belongs here, or None."""
        if message.said_by in self.also:
            return True, 0, True
        within = [len(each) for each in self.modules if f"{message.module}.".startswith(f"{each}." if each else "")]
        if not within or (self.kinds and message.said_by not in self.kinds):
            return None
        return self.first, max(within), bool(self.kinds)


_OPTIONS = ("ConfigError", "ValueError")
_PAIRS = ("hamlet_consul.credentials", "hamlet_envoy.certificates", "hamlet_istio.certificates")
"""Where gateways read the agent's certificate."""

SECTIONS = (
    Section(
        title="Values of the wrong form",
        about="What is wrong with a value, or a key, of any file that people write: `hamlet.yaml`, with the options"
        " of every kind, and files of services. It is told with file, line and key, and often followed by the value."
        " For an unknown key the nearest one and all that are allowed are told, for a missing one what it means.",
        modules=("hamlet_core.api.wording", "hamlet_core.api.values"),
    ),
    Section(
        title="The configuration",
        about="What is wrong in `hamlet.yaml`, told with file, line and key, all of it at once by"
        " `hamlet config check`: `hamlet.yaml:12: peers.east.retain: must be ...`. [Configuration](configuration.md)"
        " has every key and what it takes.",
        modules=(
            "hamlet_core.config",
            "hamlet_core.cli.config",
            "hamlet_core.plugins.opening",
        ),
    ),
    Section(
        title="Options of kind consul",
        about="What is wrong with the keys of a registry, gateway or coordinator of kind `consul`.",
        modules=("hamlet_consul",),
        kinds=_OPTIONS,
    ),
    Section(
        title="Options of kind istio",
        about="What is wrong with the keys of a registry, gateway or coordinator of kind `istio`, and with the way to"
        " the API server that they name.",
        modules=("hamlet_istio",),
        kinds=_OPTIONS,
    ),
    Section(
        title="Options of kind envoy",
        about="What is wrong with the keys of a gateway of kind `envoy`.",
        modules=("hamlet_envoy",),
        kinds=_OPTIONS,
    ),
    Section(
        title="Files of services",
        about="What is wrong in a file of a registry of kind `file`, told with file, line and field. Until it is"
        " mended, what it said last counts.",
        modules=("hamlet_file.parse", "hamlet_file.schema", "hamlet_file.services"),
        kinds=("Problem", "ValueError"),
    ),
    Section(
        title="Commands",
        about="What a command says that cannot do what it is asked, or that was given options that do not go"
        " together.",
        modules=(
            "hamlet_core.cli",
            "hamlet_core.agent.admin",
            "hamlet_consul.verification_way",
            "hamlet_envoy.verification",
            "hamlet_istio.verification_way",
        ),
    ),
    Section(
        title="Plugins",
        about="What is wrong with an installed plugin, or with what an adapter answers; `hamlet plugins` lists them."
        " For authors: the rules are on the page [Hooks](hooks.md).",
        modules=("hamlet_core.plugins",),
    ),
    Section(
        title="Certificates and trust",
        about="Why a certificate, a key or a bundle cannot be used, ours or a peer's. Who is taken for whom is in"
        " [Security](security.md#who-is-who).",
        modules=("hamlet_core.identity", *_PAIRS),
    ),
    Section(
        title="Peers and streams",
        about="Why a peer is not linked, or a stream with it has ended: `last error` of `hamlet status`. Some are"
        " told to the peer, and some are what the peer told; the codes are [above](#how-a-stream-ends).",
        modules=("hamlet_core.rpc", "hamlet_core.wire", "hamlet_core.publish.subscription"),
        also=("StreamEnd",),
    ),
    Section(
        title="The agent",
        about="What keeps the agent from starting or leading, or a reload from taking effect.",
        modules=("hamlet_core.agent", "hamlet_core.api.leading"),
    ),
    Section(
        title="Services that are not published",
        about="Why a service of ours is not offered to peers, although a rule selects it: `problems` of"
        " `hamlet status`. It is looked at again when the service, the rule or the gateway changes.",
        modules=("hamlet_core.publish",),
    ),
    Section(
        title="Refused services",
        about="Why a service of a peer is not taken, or not yet. The peer is told, and `hamlet services` lists it."
        " The limits are in the [protocol](protocol.md#what-is-refused), the rules in"
        " [Security](security.md#what-is-taken-from-a-peer).",
        kinds=(REFUSAL,),
        first=True,
    ),
    Section(
        title="Consul",
        about="What the registry, the gateway and the coordinator of kind `consul` say about Consul, about an import"
        " that is not written and about a route that is refused.",
        modules=("hamlet_consul",),
    ),
    Section(
        title="Kubernetes and Istio",
        about="What the registry, the gateway and the coordinator of kind `istio` say about the cluster, about an"
        " import that is not written and about a route that is refused.",
        modules=("hamlet_istio",),
    ),
    Section(
        title="Envoy",
        about="What the gateway of kind `envoy` says about Envoy, and about a route that is refused.",
        modules=("hamlet_envoy",),
    ),
    Section(
        title="Folders of files",
        about="What the registry and the coordinator of kind `file` say about their folder, and about an import that"
        " is not written.",
        modules=("hamlet_file",),
    ),
    Section(
        title="Findings",
        about="What `hamlet check` says of the agent, its peers and their certificates. A finding is `ok`, a"
        " `warning` or an `error`; the mend stands behind it.",
        modules=("hamlet_core",),
        kinds=(FINDING,),
        first=True,
    ),
    Section(
        title="Findings of kind consul",
        about="What `hamlet check` says of Consul, and of what the token may do.",
        modules=("hamlet_consul",),
        kinds=(FINDING,),
        first=True,
    ),
    Section(
        title="Findings of kind istio",
        about="What `hamlet check` says of the cluster, and of what the agent may do there.",
        modules=("hamlet_istio",),
        kinds=(FINDING,),
        first=True,
    ),
    Section(
        title="Findings of kind envoy",
        about="What `hamlet check` says of Envoy and of its files.",
        modules=("hamlet_envoy",),
        kinds=(FINDING,),
        first=True,
    ),
    Section(
        title="Findings of kind file",
        about="What `hamlet check` says of the folder.",
        modules=("hamlet_file",),
        kinds=(FINDING,),
        first=True,
    ),
)


def divided(messages: Iterable[Message]) -> dict[Section, list[Message]]:
    """The sentences by section, in order. Raises `LookupError` for one that no section takes, or without any."""
    found: dict[Section, list[Message]] = {each: [] for each in SECTIONS}
    for message in messages:
        claims = {each: claim for each in SECTIONS if (claim := each.claim(message)) is not None}
        if not claims:
            fault = f"no section of docs/generate/sections.py takes what {message.module} says as {message.said_by}"
            fault += f" ({message.text!r}): say there where a person meets it, and what it is about"
            raise LookupError(fault)
        found[max(claims, key=lambda each: claims[each])].append(message)
    if empty := [each.title for each in SECTIONS if not found[each]]:
        fault = f"docs/generate/sections.py has sections that nothing is said in: {', '.join(empty)}"
        raise LookupError(fault)
    return found
