"""docs/errors.md: exit codes, families of errors and codes of streams by hand, and every sentence from the source.

A class, an exit code or a code of streams that has no entry here stops `make docs`, and so the build.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping

from docs.generate.classes import ErrorClass, error_classes
from docs.generate.messages import Message, messages, stream_codes
from docs.generate.notice import NOTICE
from docs.generate.sayers import OUTCOME, UNAVAILABLE
from docs.generate.sections import divided
from hamlet_core.cli.exits import Exit, code_of

HEAD = """\
# Errors

What can go wrong, what the agent does about it by itself, and what you do. A command prints an error as one
sentence and, where there is one, its mend; the log has the same in `error` and `mend`. Look for the sentence
below. For what you see in `hamlet status`, start with the [symptoms](troubleshooting.md#symptoms).

## Exit codes

Scripts may rely on them.

| code | meaning | what to do |
|---|---|---|
"""

EXITS: Mapping[int, tuple[str, str]] = {
    Exit.OK: ("It went well.", "Nothing."),
    Exit.FINDINGS: (
        "It found errors, or was refused: by a check, by the agent, by a plugin or by a file's rights.",
        "Read what it printed: each line has its mend. `hamlet status` ends so too while anything is not well.",
    ),
    Exit.USAGE: (
        "The command line or the configuration is wrong.",
        "Mend the option, or the file and line that it names; `hamlet config check` names all of them at once.",
    ),
    Exit.UNREACHABLE: (
        "No agent answers on the admin socket, or the backend of an adapter cannot be reached.",
        "Start the agent with `hamlet run`, name its configuration with `-c`, and be its user; or start the backend.",
    ),
    Exit.INTERNAL: (
        "A fault of Hamlet itself, or of a plugin.",
        "Run it again with `hamlet --debug` and report it with the traceback.",
    ),
    130: ("Interrupted with Ctrl-C.", "Nothing: what a command was doing is not half done, or it has said what is."),
}
"""Every exit code: what it means, and what to do."""

FAMILIES_HEAD = """\
## Families

Every error that Hamlet reports on purpose is a `HamletError`. Its class says what the one who catches it does.
Those marked *api* are for adapters to raise.

| class | means | the agent | you | exit code |
|---|---|---|---|---|
"""

FAMILIES: Mapping[str, tuple[str, str]] = {
    "HamletError": ("as the message says", "Read the message: it names the thing, the value and the mend."),
    "ConfigError": (
        "does not start; on a reload it keeps the old configuration in force as a whole",
        "Mend the key at the file and line that it names.",
    ),
    "ConfigProblems": ("as for a ConfigError", "Mend each of them: everything that is wrong is listed at once."),
    "AdapterError": (
        "keeps what it knows, shows the error, and tries again from 1 s to 60 s apart",
        "Mend the plugin or its rights: its version, its installation, its bug.",
    ),
    "RegistryUnavailable": (
        "keeps what it knows, publishes the last report, holds writes back, and tries again from 1 s to 60 s apart",
        "Bring the registry back, or give the agent its rights there; nothing else.",
    ),
    "GatewayUnavailable": (
        "leaves the gateway as it is, and tries again from 1 s to 60 s apart",
        "Bring the gateway back, or give the agent its rights there; nothing else.",
    ),
    "CoordinatorUnavailable": (
        "does not lead: stands by, everything stopped, nothing withdrawn, and asks again from 1 s to 10 s apart",
        "Bring the coordinator's backend back, or give the agent its rights there; nothing else.",
    ),
    "InvalidService": (
        "leaves that one service out, says why, and looks again when it changes",
        "Change the service, or the rule that it breaks.",
    ),
    "IdentityError": (
        "refuses the connection, or keeps the last good certificate or bundle in force",
        "Compare the certificate, the key or the bundle with what the peer's operator has.",
    ),
    "PeerUnreachable": (
        "keeps what the peer had, and dials again up to `backoff_cap` apart",
        "Look at the peer's `address`, and at the network between.",
    ),
    "StreamEnd": (
        "keeps what the peer had, and subscribes anew up to `backoff_cap` apart",
        "See the [codes](#how-a-stream-ends); ask the peer's operator when it stays.",
    ),
    "WireError": (
        "ends that stream, keeps what the peer had, and dials again",
        "The peer speaks another protocol, or has a fault: compare `api`, and report it to its operator.",
    ),
    "SubscriptionEnded": (
        "ends that stream; the peer subscribes anew and gets the full catalog",
        "Nothing: it is shown where a peer reads too slowly.",
    ),
    "AgentUnreachable": ("is not reached", "Start it, name its configuration with `-c`, be its user."),
    "ConsulDenied": (
        "as for RegistryUnavailable: what was published stays published",
        "Give the token the right that the message names; the agent goes on by itself.",
    ),
    "UnknownToken": (
        "as for RegistryUnavailable; the watch asks anew, so that `hamlet status` shows it",
        "Put a valid token in `token`, and restart the agent.",
    ),
    "ConsulRefused": ("as for an AdapterError", "Report it: the call itself was wrong."),
    "InTheWay": (
        "rejects that one import, and tells the peer",
        "Rename or remove the entry that the message names, or have the owner publish under another name.",
    ),
    "Refusal": (
        "rejects that one import in the API server's words",
        "Do what the API server's message says; a missing right is listed by `hamlet check`.",
    ),
}
"""What the agent does about each class of errors, and what its operator does."""

CODES_HEAD = """\
## How a stream ends

A stream ends with a gRPC code and a sentence; `hamlet status` shows both as `last error`. What the peer sent is
shown in its own words.

| code | from us it means | from a peer it usually means | what to do |
|---|---|---|---|
"""

CODES: Mapping[str, tuple[str, str, str]] = {
    "OK": (
        "The stream is not needed: another one carries both directions.",
        "At once and without an error: another `context`.",
        "Agree on `context` with its operator.",
    ),
    "CANCELLED": (
        "The agent let go of the stream.",
        "The peer's process let go of it.",
        "Nothing: it is dialled again.",
    ),
    "UNKNOWN": ("Not sent.", "A fault of the peer's server.", "Ask its operator when it stays."),
    "INVALID_ARGUMENT": (
        "The peer asked for a resource that we do not publish, or sent a frame that is no message.",
        "It does not know the version that we dial with.",
        "Compare `api` with what the peer speaks.",
    ),
    "DEADLINE_EXCEEDED": (
        "The peer read nothing, or answered nothing, for `ack_timeout`.",
        "We were that slow: a registry takes long.",
        "Look at `lag` on both sides, and at the registry of the one that is slow.",
    ),
    "FAILED_PRECONDITION": (
        "The peer named another `context`. From the admin socket: what was asked for is refused.",
        "We named another `context`.",
        "Agree on one.",
    ),
    "ABORTED": (
        "The peer fell so far behind that removals it had not read are no longer kept.",
        "We fell that far behind.",
        "Nothing: the full catalog is sent again. When it comes back, look why that side is slow.",
    ),
    "RESOURCE_EXHAUSTED": (
        "The peer keeps too many streams, or does not read our answers.",
        "A message was larger than the peer takes.",
        "Ask its operator when it stays.",
    ),
    "UNIMPLEMENTED": (
        "Not sent.",
        "The peer does not speak that version; to a health check it means alive.",
        "Set `api` to the version that it speaks, or to `auto`.",
    ),
    "INTERNAL": ("A fault of ours; the log has the traceback.", "A fault of the peer's.", "Report it."),
    "UNAVAILABLE": (
        "Not every registry has reported yet, the agent is stopping, or the link's settings changed.",
        "The same, or its machine is gone.",
        "Nothing: it is dialled again. When it stays, look at the registry that has not reported.",
    ),
    "UNAUTHENTICATED": (
        "No peer's bundle vouches for the caller, or we no longer have that peer.",
        "The peer does not know us: it is not dialled again until a reload, or until certificates or bundles change.",
        "Agree with its operator, exchange bundles, reload.",
    ),
}
"""Every code that the code of streams speaks of: from us, from a peer, and what to do."""

SENTENCES_HEAD = """\
## Sentences

Every sentence that the agent and its plugins have for an error, by where a person meets it and sorted by its first
word. `…` is what is filled in: a name, a value, a cause in the words of another program. A *part* stands in another
sentence, where that has `…`. Where no mend stands beside a sentence, it says by itself what to do, or that of its
[family](#families) holds.
"""

KINDS: Mapping[str, str] = {
    OUTCOME: "an import is not written",
    "Refused": "a route is refused",
    UNAVAILABLE: "RegistryUnavailable, GatewayUnavailable or CoordinatorUnavailable",
}
"""What is no class of errors and yet has sentences of its own, in the column that names the class."""


def errors() -> str:
    """docs/errors.md."""
    exits = (f"| {int(code)} | {EXITS[code][0]} | {EXITS[code][1]} |" for code in (*Exit, 130))
    codes = (
        f"| `{code}` | {' | '.join(CODES[code])} |" for code in CODES if code in stream_codes() or _unknown(code)
    )
    for code in stream_codes():
        _documented(code, CODES, "code of streams")
    page = [NOTICE, HEAD + "\n".join(exits) + "\n", FAMILIES_HEAD + "\n".join(_families()) + "\n"]
    return "\n".join([*page, CODES_HEAD + "\n".join(codes) + "\n", SENTENCES_HEAD, *_sentences()]).rstrip("\n") + "\n"


def _families() -> Iterator[str]:
    for stale in FAMILIES.keys() - error_classes().keys():
        message = f"docs/generate/errors.py describes the class {stale}, which is not there"
        raise LookupError(message)
    for each in error_classes().values():
        agent, operator = _documented(each.name, FAMILIES, "class of errors")
        meaning = " ".join(each.doc.split("\n\n")[0].split())
        name = f"`{each.name}`" + (" *api*" if each.module == "hamlet_core.api.errors" else "")
        name += "" if each.distribution == "hamlet-core" else f" ({each.distribution})"
        yield f"| {name} | {meaning} | {agent} | {operator} | {_exit_code(each)} |"


def _exit_code(each: ErrorClass) -> int:
    kind = getattr(importlib.import_module(each.module), each.name)
    return int(code_of(kind.__new__(kind)))


def _documented(name: str, table: Mapping[str, tuple[str, ...]], what: str) -> tuple[str, ...]:
    if name not in table:
        message = f"the {what} {name} has no entry in docs/generate/errors.py: say what it means and what to do"
        raise LookupError(message)
    return table[name]


def _unknown(code: str) -> bool:
    message = f"docs/generate/errors.py describes the code {code}, of which no stream speaks"
    raise LookupError(message)


def _sentences() -> Iterator[str]:
    for section, said in divided(messages()).items():
        yield f"### {section.title}\n\n{section.about}\n"
        yield _table(said)


def _table(said: Iterable[Message]) -> str:
    """The sentences, each once, with their classes if there are any, and mends if there are any."""
    rows: dict[tuple[str, bool], list[Message]] = {}
    for each in sorted(said, key=lambda each: each.text.lstrip("`…: ").casefold()):
        rows.setdefault((each.text, each.part), []).append(each)
    lines = []
    for (text, part), alike in rows.items():
        if (part and (text, False) in rows) or (re.search(r"\w…$", text) and (text[:-1], part) in rows):
            continue  # it is a sentence, too; or the same, and more behind it
        kinds = ", ".join(dict.fromkeys(filter(None, map(_kind, alike))))
        mends = "; or ".join(dict.fromkeys(each.mend for each in alike if each.mend))
        lines.append((_code(text) + (" *(part)*" if part else ""), kinds, _plain(mends)))
    heads = ("it says", "error", "what to do")
    columns = [at for at in range(3) if any(line[at] for line in lines)]
    shown = [[line[at] for at in columns] for line in (heads, ("---",) * 3, *lines)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in shown) + "\n"


def _kind(message: Message) -> str:
    """What the column of classes has for a sentence."""
    return f"`{message.said_by}`" if message.said_by in error_classes() else KINDS.get(message.said_by, "")


def _code(text: str) -> str:
    """A sentence as code in a cell of a table."""
    marks = "``" if "`" in text else "`"
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{marks}{pad}{_one_line(text)}{pad}{marks}"


def _plain(text: str) -> str:
    return _one_line(text).replace("<", "&lt;")


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
