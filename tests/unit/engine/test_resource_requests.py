"""What is asked for of processors and memory, within Docker's limits."""

from typing import Any

import pytest

from agent.engine.http import Fields
from agent.engine.resource_requests import settings
from common import errors

MIB = 1 << 20


def made(**host: Any) -> dict[str, Any]:
    return settings(Fields(host), 2)


def test_nothing_asked_for() -> None:
    found = made()
    assert (found["memory_bytes"], found["memory_swap_bytes"], found["memory_swappiness"]) == (0, 0, None)
    assert (found["shm_bytes"], found["pids_limit"], found["nano_cpus"]) == (64 * MIB, 0, 0)


def test_what_is_asked_for() -> None:
    found = made(
        Memory=16 * MIB, MemoryReservation=8 * MIB, MemorySwappiness=10, CpuShares=512, CpuPeriod=100_000,
        CpuQuota=50_000, CpusetCpus="0", PidsLimit=-1, OomScoreAdj=-5, OomKillDisable=True, ShmSize=MIB,
    )  # fmt: skip
    assert (found["memory_bytes"], found["memory_swap_bytes"]) == (16 * MIB, 32 * MIB)
    assert (found["cpu_shares"], found["cpu_period"], found["cpu_quota"]) == (512, 100_000, 50_000)
    assert (found["cpuset_cpus"], found["pids_limit"], found["memory_swappiness"]) == ("0", 0, 10)
    assert found["oom_kill_disable"] and found["shm_bytes"] == MIB
    assert made(Memory=16 * MIB, MemorySwap=-1)["memory_swap_bytes"] == -1
    assert made(MemorySwappiness=-1)["memory_swappiness"] is None


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": -5}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": 16 * MIB, "MemorySwap": 8 * MIB}, "Minimum memoryswap limit should be larger"),
        ({"MemorySwap": 8 * MIB}, "You should always set the Memory limit"),
        ({"MemoryReservation": 5}, "Minimum memory reservation allowed is 6MB"),
        ({"Memory": 8 * MIB, "MemoryReservation": 9 * MIB}, "can not be less than memory reservation limit"),
        ({"MemorySwappiness": 101}, "valid memory swappiness range is 0-100"),
        (
            {"NanoCpus": 3_000_000_000},
            "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
        ),
        ({"NanoCpus": 1, "CpuPeriod": 1000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"NanoCpus": 1, "CpuQuota": 1000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms"),
        ({"CpuShares": -1}, "value must be a positive integer"),
        ({"OomScoreAdj": 2000}, "range for oom score adj"),
        ({"Memory": "16m"}, "invalid JSON: json: cannot unmarshal string into Go"),
    ],
)
def test_what_makes_no_sense(host: dict[str, Any], text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        made(**host)
    assert text in caught.value.message
