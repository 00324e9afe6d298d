"""Asking whichever manager answers."""

import datetime as dt

import grpc.aio
import pytest

from common import errors, model, pki
from manager import elsewhere
from manager.elsewhere import Papers
from manager.store.store import NO_LEADER


@pytest.fixture(scope="module")
def papers() -> Papers:
    now = dt.datetime.now(dt.UTC)
    key = pki.new_key()
    chain = pki.issue_node(pki.create_root(now), pki.create_csr(key), "n", model.NodeRole.MANAGER, "c", now)
    return Papers(pki.key_pem(key), chain)


async def test_the_next_one_is_asked_and_all_of_them_again(
    papers: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[errors.ShoalError | str] = [
        errors.Unavailable("away"),
        errors.ShoalError(NO_LEADER),
        errors.DeadlineExceeded("slow"),
        "yes",
    ]
    asked = []

    async def one(papers: Papers, addr: str, call: object, seconds: float) -> str:
        asked.append(addr)
        answer = answers.pop(0)
        if isinstance(answer, errors.ShoalError):
            raise answer
        return answer

    monkeypatch.setattr(elsewhere, "_one", one)
    assert await elsewhere.ask(papers, ["a", "b"], never, 10) == "yes"
    assert asked == ["a", "b", "a", "b"]
    answers.append(errors.PermissionDenied("no"))
    with pytest.raises(errors.PermissionDenied):
        await elsewhere.ask(papers, ["a", "b"], never, 10)


async def never(channel: grpc.aio.Channel, seconds: float) -> str:
    raise AssertionError


async def test_nobody_answers(papers: Papers) -> None:
    with pytest.raises(errors.Unavailable, match="no other manager is known"):
        await elsewhere.ask(papers, [], never, 1)

    async def call(channel: grpc.aio.Channel, seconds: float) -> None:
        await channel.unary_unary("/shoal.Raft/Leave")(b"", timeout=seconds)

    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1"):
        await elsewhere.ask(papers, ["127.0.0.1:1"], call, 0.5)
