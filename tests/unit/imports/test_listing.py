"""What `hamlet services` lists, what `hamlet plan` rehearses, and the little that status asks for every second."""

from __future__ import annotations

from datetime import timedelta

from hamlet_core.api import ImportKey, RemoveImport, WriteImport


def listed(it) -> dict[str, tuple[str, str]]:
    return {row.key.name: (row.local_name, row.state) for row in it.reconciler.rows()}


def test_each_service_is_listed_with_what_became_of_it(bench):
    it = bench(east={"accept": ["*.east.example"]})
    it.begin()
    for name in ("a.east.example", "b.east.example", "refused.example"):
        it.offer(name)
    it.work()
    it.offer("b.east.example", 2)
    assert listed(it) == {
        "a.east.example": ("a.east.example", "applied"),
        "b.east.example": ("b.east.example", "pending"),
        "refused.example": ("", "rejected"),
    }
    reasons = {row.key.name: row.reason for row in it.reconciler.rows()}
    assert "peers.east.accept" in reasons["refused.example"]
    assert reasons["a.east.example"] == ""


def test_what_stands_from_before_and_was_not_offered_again_is_retained(bench):
    it = bench()
    it.sync("a", "b")
    it.restart()
    assert listed(it) == {"a": ("a", "retained"), "b": ("b", "retained")}
    it.begin()
    it.offer("a")
    assert listed(it) == {"a": ("a", "applied"), "b": ("b", "retained")}


def test_why_and_until_when_something_is_retained_is_listed(bench):
    it = bench(east={"retain": "2h"})
    it.sync("a")

    def said():
        ((reason, until),) = [(row.reason, row.kept_until) for row in it.reconciler.rows()]
        assert it.status().kept_until == until
        return reason, until

    assert said() == ("", None)
    it.lost()
    lost = it.now
    it.later(hours=1)
    assert said() == ("its peer is lost", lost + timedelta(hours=2))
    it.begin()
    assert said() == ("its peer has not mentioned it yet since the link came up", None)
    it.offer("a")
    assert said() == ("", None)


def test_what_is_retained_for_ever_has_no_end(bench):
    it = bench(east={"retain": 0})
    it.sync("a")
    it.lost()
    assert [(row.reason, row.kept_until) for row in it.reconciler.rows()] == [("its peer is lost", None)]


def test_a_held_removal_is_listed_as_held(bench):
    it = bench()
    it.sync("a", "b")
    it.catalog("a")
    assert listed(it)["b"] == ("b", "held")


def test_a_rehearsal_says_what_would_be_done_and_does_nothing(bench, config):
    it = bench(east={})
    it.sync("a", "b")
    before = (listed(it), dict(it.entries), it.plan())
    changes = it.reconciler.rehearse(config(east={"accept": ["a"]}), it.now)
    assert changes == (RemoveImport(ImportKey("east", "b"), "b"),)
    assert set(it.reconciler.rehearse(config(), it.now)) == {
        RemoveImport(ImportKey("east", name), name) for name in ("a", "b")
    }
    assert it.reconciler.rehearse(it.config, it.now) == ()
    assert (listed(it), dict(it.entries), it.plan()) == before


def test_a_rehearsal_shows_what_a_change_takes_back_of_what_is_still_to_be_done(bench, config):
    it = bench(east={"accept": ["a"]})
    it.begin()
    it.offer("a")
    it.offer("b")
    changes = it.reconciler.rehearse(config(east={}), it.now)
    assert [(type(change), change.key.name) for change in changes] == [(WriteImport, "b")], "a is written anyway"
    assert it.work() == ["+a"]


def test_a_glance_agrees_with_the_status(bench):
    it = bench()
    for step in (lambda: it.sync("a", "b"), lambda: it.catalog("a"), it.lost, it.restart):
        step()
        glance, status = it.reconciler.glance("east"), it.status()
        assert (glance.standing, glance.held, glance.complete) == (
            status.standing,
            len(status.held),
            status.complete,
        )
    assert it.reconciler.glance("nobody").standing == 0
