"""agent/engine/nicknames.py: names for services that are created without one."""

import re

from agent.engine import nicknames


def test_every_number_has_a_name_of_its_own_that_swarms_take():
    names = [nicknames.nickname(number) for number in range(nicknames.COUNT)]
    assert len(set(names)) == nicknames.COUNT == 4096
    assert all(re.fullmatch(r"[a-z]+_[a-z]+", name) for name in names)
    assert nicknames.nickname(7, attempt=2) == names[7] + "2"
