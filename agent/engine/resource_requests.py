"""What HostConfig asks for of the machine's processors and memory: Docker's limits for it, and its texts. Pure; for
container_requests.py."""

from __future__ import annotations

from typing import Any, Final

from agent.engine.http import Fields
from common import errors

_LEAST_MEMORY: Final = 6 << 20
_PERIODS: Final = (1_000, 1_000_000)  # microseconds
_LEAST_QUOTA: Final = 1_000
_NANO: Final = 1_000_000_000
_OOM_SCORES: Final = (-1000, 1000)


def settings(host: Fields, processors: int) -> dict[str, Any]:
    """The fields of ContainerConfig; `processors`: of this machine, 0 where that isn't known."""
    memory, swap = host.signed("Memory"), host.signed("MemorySwap")
    reservation, swappiness = host.signed("MemoryReservation"), host.signed("MemorySwappiness")
    given = host.get("MemorySwappiness") is not None and swappiness != -1
    _check_memory(memory, swap, reservation)
    if given and not 0 <= swappiness <= 100:
        raise _bad(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    _check_processors(host, processors)
    score, shm = host.signed("OomScoreAdj"), host.signed("ShmSize")
    if not _OOM_SCORES[0] <= score <= _OOM_SCORES[1]:
        raise _bad(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
    if shm < 0:
        raise _bad("SHM size can not be less than 0")
    return {
        "nano_cpus": host.signed("NanoCpus"),
        "cpu_shares": host.signed("CpuShares"),
        "cpu_period": host.signed("CpuPeriod"),
        "cpu_quota": host.signed("CpuQuota"),
        "cpuset_cpus": host.text("CpusetCpus"),
        "cpuset_mems": host.text("CpusetMems"),
        "memory_bytes": memory,
        "memory_swap_bytes": swap or 2 * memory,
        "memory_reservation_bytes": reservation,
        "memory_swappiness": swappiness if given else None,
        "oom_kill_disable": host.flag("OomKillDisable"),
        "oom_score_adj": score,
        "pids_limit": max(0, host.signed("PidsLimit")),
        "shm_bytes": shm or 64 << 20,
    }


def _bad(text: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(text)


def _check_memory(memory: int, swap: int, reservation: int) -> None:
    if memory and memory < _LEAST_MEMORY:
        raise _bad("Minimum memory limit allowed is 6MB")
    if memory > 0 and 0 < swap < memory:
        raise _bad("Minimum memoryswap limit should be larger than memory limit, see usage")
    if memory == 0 and swap > 0:
        raise _bad("You should always set the Memory limit when using Memoryswap limit, see usage")
    if reservation and reservation < _LEAST_MEMORY:
        raise _bad("Minimum memory reservation allowed is 6MB")
    if 0 < memory < reservation:
        raise _bad("Minimum memory limit can not be less than memory reservation limit, see usage")


def _check_processors(host: Fields, processors: int) -> None:
    nano, period, quota = host.signed("NanoCpus"), host.signed("CpuPeriod"), host.signed("CpuQuota")
    if nano and period:
        raise _bad("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if nano and quota:
        raise _bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if nano < 0 or (processors and nano > processors * _NANO):
        raise _bad(
            f"range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        )
    if period and not _PERIODS[0] <= period <= _PERIODS[1]:
        raise _bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < quota < _LEAST_QUOTA:
        raise _bad("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.signed("CpuShares") < 0:
        shares = host.signed("CpuShares")
        raise _bad(f"invalid CPU shares ({shares}): value must be a positive integer")
