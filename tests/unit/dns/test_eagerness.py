"""Which clients are worth a moment's look."""

from __future__ import annotations

from agent.dns.eagerness import FIRST, MOMENT, MOST, Eagerness


def quick(eager: Eagerness, questions: int) -> Eagerness:
    for _ in range(questions):
        eager.came(MOMENT / 2)
    return eager


def test_many_quick_questions_earn_it_and_a_pause_ends_it() -> None:
    eager = quick(Eagerness(), FIRST - 1)
    assert not eager.earned
    assert quick(eager, 1).earned
    eager.looked(found=True)
    assert eager.earned
    eager.came(MOMENT)
    assert not eager.earned


def test_each_look_in_vain_makes_the_next_one_dearer() -> None:
    eager, spent = Eagerness(), []
    while len(spent) < 12:
        count = 0
        while not eager.earned:
            quick(eager, 1)
            count += 1
        eager.looked(found=False)
        spent.append(count)
    assert spent[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert spent[-1] == MOST
    quick(eager, MOST).looked(found=True)
    eager.came(1.0)
    assert quick(eager, FIRST).earned
