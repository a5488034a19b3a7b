"""A sentence is read from the source as it is written, whatever way it takes; one that cannot be read is a fault."""

from __future__ import annotations

import ast

import pytest

from docs.generate import messages as collecting
from docs.generate.messages import Message, Place, read
from docs.generate.source import Module, Source


def found_in(code: str, name: str = "hamlet_core.x") -> tuple[tuple[Message, ...], dict[Place, str]]:
    messages, faults = read(Source((Module("hamlet-core", name, "x.py", ast.parse(code)),)))
    return messages, dict(faults)


def texts_of(code: str, name: str = "hamlet_core.x") -> list[tuple[str, str]]:
    messages, faults = found_in(code, name)
    assert faults == {}
    return [(each.text, each.mend) for each in messages if not each.part]


@pytest.mark.parametrize(
    ("body", "text", "mend"),
    [
        ('raise HamletError("the plain words", mend="do it")', "the plain words", "do it"),
        ('raise HamletError(f"the {thing} is {value!r} here")', "the … is … here", ""),
        ('message = f"one {thing} is wrong"\n    raise HamletError(message) from None', "one … is wrong", ""),
        (
            'message = "first of two"\n    message = "second of two"\n    raise HamletError(message)',
            "second of two",
            "",
        ),
        ('raise HamletError("in two " + f"parts {thing}")', "in two parts …", ""),
        ('message = "it is wrong"\n    message += f" here: {thing}"\n    raise HamletError(message)',
         "it is wrong here: …", ""),
        ('return Finding(subject="x", severity=1, message="not so well")', "not so well", ""),
        ('return Outcome(key=key, status=Status.RETRY, reason=f"{key} is busy now")', "… is busy now", ""),
        ('raise ValueError(f"{value!r} is no network: write 10.0.0.0/8")', "… is no network: write 10.0.0.0/8", ""),
        ('raise Inconsistent(((("until",), "must be later than `from`"),))', "must be later than `from`", ""),
        ('self.places.problem(loc, "this key takes a path", "write the path")', "this key takes a path",
         "write the path"),
        ('peering.close(grpc.StatusCode.UNAVAILABLE, "the agent is stopping")', "the agent is stopping", ""),
        ('raise click.UsageError("nobody has answered")', "nobody has answered", ""),
    ],
)  # fmt: skip
def test_a_sentence_is_read_as_it_is_written(body: str, text: str, mend: str) -> None:
    assert texts_of(f"def f():\n    {body}\n") == [(text, mend)]


BRANCHES = """
def f(x):
    if x:
        what, mend = "is too large", "make it less"
    else:
        what, mend = "is too small", "make it more"
    raise HamletError(f"{x} {what}", mend=mend)
"""
RESULT = """
def fault(x):
    if x > 9:
        return f"is made for version {x}", "upgrade the core"
    return "implements no hook", ""

def f(x):
    what, mend = fault(x)
    raise AdapterError(f"{x} {what}", mend=mend)
"""
HELPER = """
def warning(message, mend=""):
    return Finding(subject="", severity=1, message=message, mend=mend)

def f():
    yield warning("no right to write", "let the user write")
    yield warning("it is gone")
"""
TABLE = """
NAMES = {"a": ("is no number", "write one"), "b": ("is no text", "quote it")}

def each(kind):
    message, mend = NAMES[kind]
    yield kind, message, mend

def f(kind):
    for key, message, mend in each(kind):
        self.places.problem(key, message, mend)
"""
CONDITION = """
def f(x):
    return Finding(subject="", severity=1, message="it is here" if x else "it is there")
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (BRANCHES, {("… is too large", "make it less"), ("… is too small", "make it more")}),
        (RESULT, {("… is made for version …", "upgrade the core"), ("… implements no hook", "")}),
        (HELPER, {("no right to write", "let the user write"), ("it is gone", "")}),
        (TABLE, {("is no number", "write one"), ("is no text", "quote it")}),
        (CONDITION, {("it is here", ""), ("it is there", "")}),
    ],
)
def test_a_sentence_is_followed_to_where_it_is_written(code: str, said: set[tuple[str, str]]) -> None:
    assert set(texts_of(code)) == said


def test_phrases_that_are_too_many_for_their_sentence_are_told_apart() -> None:
    reasons = [f"for reason number {one}" for one in ("one", "two", "three", "four")]
    code = "def why(x):\n" + "".join(f"    yield {each!r}\n" for each in reasons)
    messages, _ = found_in(f"{code}def f(x):\n    raise HamletError(f'it is refused: {{why(x)}}')\n")
    assert [(each.text, each.part) for each in messages] == [
        ("it is refused: …", False),
        *((each, True) for each in reasons),
    ]


@pytest.mark.parametrize(
    "body",
    [
        "raise HamletError(thing.words)",
        "raise ConfigError(f'{thing}: {other}')",
        "raise ValueError(words(thing))",
        "raise ValueError(thing)",
        "return Finding(subject='', severity=1, message=thing)",
        "return Outcome(key=key, status=Status.REJECTED, reason=thing)",
        "raise Inconsistent(thing)",
        "stream.end(grpc.StatusCode.ABORTED, thing)",
        "raise HamletError('it is here' if key else thing)",
    ],
)
def test_a_sentence_without_words_is_a_fault_with_its_place_and_what_to_do(body: str) -> None:
    _, faults = found_in(f"def f(key, thing, other):\n    {body}\n")
    (fault,) = faults.values()
    assert fault.startswith("x.py:2: no words can be read from ")
    assert " says in x.py:2: " in fault
    assert "write them as a text in the call" in fault


def test_a_helper_that_is_given_no_words_by_one_of_its_calls_is_a_fault_there() -> None:
    code = HELPER.replace('"it is gone"', "thing.words")
    _, faults = found_in(code)
    assert list(faults) == [("x.py", "thing.words")]
    line = next(number for number, each in enumerate(code.splitlines(), 1) if "thing.words" in each)
    assert faults["x.py", "thing.words"].startswith(f"x.py:{line}: ")


HANDLED = """
def f(thing):
    try:
        g()
    except OSError as error:
        raise HamletError({})
"""


@pytest.mark.parametrize(
    "code",
    [
        HANDLED.format("str(error)"),
        HANDLED.format("f'{thing}: {error}'"),
        "def f(error: BaseException):\n    return HamletError(f'{type(error).__name__}: {error}')\n",
    ],
)
def test_the_words_of_another_error_may_be_passed_on(code: str) -> None:
    _, faults = found_in(code)
    assert faults == {}


def test_a_sentence_that_cannot_be_read_stops_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def f(thing):\n    raise HamletError(thing)\n"
    modules = (*collecting.source().modules, Module("hamlet-core", "hamlet_core.x", "x.py", ast.parse(code)))
    monkeypatch.setattr(collecting, "source", lambda: Source(modules))
    with pytest.raises(LookupError, match=r"^x\.py:2: .* HamletError says in x\.py:2"):
        collecting.messages.__wrapped__()


def test_words_that_are_passed_on_no_more_stop_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "PASSED_ON", {**collecting.PASSED_ON, "x.py": ("thing",)})
    with pytest.raises(LookupError, match=r"names thing of x\.py"):
        collecting.messages.__wrapped__()
