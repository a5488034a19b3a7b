"""Where the words of an error are those of another, which are read where that one is made, or of another program.

Every other sentence without words of its own is a fault: the page of errors would lack it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PASSED_ON: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hamlet_core/agent/admin.py": (
            # Of an error, to a command, and what the command is told.
            "json.dumps({'error': str(error)[:LONGEST_ERROR], 'mend': error.mend[:LONGEST_ERROR]})",
            "said['error']",
        ),
        "hamlet_core/agent/importer.py": (
            # Of a registry's outcome; of the rules for services; of what a service is refused for.
            "outcomes[0].reason",
            "received.message.reason",
            "next(filter(None, refused))",
            "each.reason",
        ),
        "hamlet_core/config/problems.py": (
            # What a rule says, with references in the place of values.
            "re.sub(f'(?<!\\\\w){re.escape(form)}(?!\\\\w)', lambda _, it=value: it.reference, message)",
            "message",
        ),
        "hamlet_core/identity/findings.py": (
            # Of errors about files.
            "finding.message",
            "f'{file.path}: {file.problem}' + (f'; {_IN_FORCE}' if file.in_force else '')",
        ),
        # Of an adapter's own errors.
        "hamlet_core/plugins/attribution.py": ("f'{owner}: {described(error)}'",),
        # Of what cannot be read of a distribution.
        "hamlet_core/plugins/loader.py": ("each.problem",),
        # Of the other side of a stream.
        "hamlet_core/rpc/link.py": ("call.details()",),
        "hamlet_core/rpc/stream.py": ("error.details()",),
        # Of the end of a stream that was made before.
        "hamlet_core/rpc/peering.py": ("self._closed.reason", "reason"),
        "hamlet_core/rpc/server.py": ("end.reason",),
        # Of Consul, of Envoy, of the operating system, of the API server.
        "plugins/consul/src/hamlet_consul/apply.py": ("f'{unit.change.key.name}: {reason}'",),
        "plugins/envoy/src/hamlet_envoy/check.py": ("seen.rejection",),
        "plugins/file/src/hamlet_file/registry.py": ("f'{error.filename or self._mesh}: {error.strerror or error}'",),
        "plugins/istio/src/hamlet_istio/connection.py": ("f'{method} {path}: {message}'",),
        # Of why a secret is refused.
        "plugins/istio/src/hamlet_istio/gateway_ingress.py": ("reason",),
        # No words: what a function returns when there is nothing to say.
        "plugins/istio/src/hamlet_istio/ingress_address.py": (
            "Endpoint(address=place.host, port=place.port)",
            "Endpoint(address=each, port=options.port)",
            "Endpoint(address=each, port=number)",
        ),
    }
)
"""By file, the expressions that have no words of their own, as `ast.unparse` writes them."""
