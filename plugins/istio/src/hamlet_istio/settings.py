"""The words of a `Route` by which a gateway tells this registry how sidecars originate TLS. Pure.

`tls-mode` is a mode of a DestinationRule, `credential-name` the secret it takes, `consumers` (JSON) the namespaces of
the workloads that use it, each with their labels: what the option `tls` says, and instead of all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from hamlet_core.api import InvalidService
from hamlet_istio.options import TlsOrigination

MODE, CREDENTIAL, CONSUMERS = "tls-mode", "credential-name", "consumers"


def settings_of(tls: TlsOrigination) -> dict[str, str]:
    """The words for a way of originating TLS; paths of files in a sidecar have none."""
    return {
        MODE: tls.mode,
        **({CREDENTIAL: tls.credential_name} if tls.credential_name else {}),
        **({CONSUMERS: json.dumps(tls.selectors(""), sort_keys=True)} if tls.credential_name else {}),
    }


def tls_said(settings: Mapping[str, str]) -> TlsOrigination | None:
    """What a gateway says; None when it leaves it to the registry, `InvalidService` when it makes no sense."""
    if MODE not in settings:
        return None
    said = {
        "mode": settings[MODE],
        **({"credential_name": settings[CREDENTIAL]} if CREDENTIAL in settings else {}),
    }
    try:
        if CONSUMERS in settings:
            said["consumers"] = json.loads(settings[CONSUMERS])
        return TlsOrigination.model_validate(said)
    except (ValidationError, ValueError) as error:
        message = f"the gateway says {dict(settings)}, which is no way of originating TLS: {error}"
        raise InvalidService(message) from error
