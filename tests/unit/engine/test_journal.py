"""The newest are kept; who doesn't read is left."""

from agent.engine import journal
from agent.engine.happenings import Happening


def told(action: str) -> Happening:
    return Happening("container", action, "c")


async def test_a_listener_hears_what_comes_and_has_what_was() -> None:
    kept = journal.Journal()
    for number in range(journal.KEPT + 10):
        kept.tell(told(str(number)))
    listener = kept.listen()
    assert [h.action for h in listener.before] == [str(n) for n in range(10, journal.KEPT + 10)]
    kept.tell(told("next"))
    heard = await listener.next()
    assert heard is not None and heard.action == "next"
    listener.close()


async def test_a_listener_that_does_not_read_is_left() -> None:
    kept = journal.Journal()
    listener = kept.listen()
    for number in range(journal._BEHIND + 5):
        kept.tell(told(str(number)))
    for _ in range(journal._BEHIND):
        assert await listener.next() is not None
    assert await listener.next() is None
