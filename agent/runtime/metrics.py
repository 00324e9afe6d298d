"""What the kernel counts for a container, in one shape for both cgroup versions. Pure; called by the containers' life."""

from agent.runtime.api import ContainerStats
from common.pb import containerd_pb2 as pb


def read_stats(metric: pb.Metric, at: int) -> ContainerStats:
    """Either cgroup version's figures in one shape; memory without the cache that can be dropped at once."""
    if metric.data.type_url.endswith("v2.Metrics"):
        two = pb.CgroupV2.FromString(metric.data.value)
        return ContainerStats(
            at=at,
            cpu_total_ns=two.cpu.usage_usec * 1000,
            cpu_user_ns=two.cpu.user_usec * 1000,
            cpu_kernel_ns=two.cpu.system_usec * 1000,
            memory_usage=max(two.memory.usage - two.memory.inactive_file, 0),
            memory_cache=two.memory.file,
            memory_limit=two.memory.usage_limit,
            pids=two.pids.current,
            pids_limit=two.pids.limit,
            oom_kills=two.memory_events.oom_kill,
        )
    one = pb.CgroupV1.FromString(metric.data.value)
    return ContainerStats(
        at=at,
        cpu_total_ns=one.cpu.usage.total,
        cpu_user_ns=one.cpu.usage.user,
        cpu_kernel_ns=one.cpu.usage.kernel,
        memory_usage=max(one.memory.usage.usage - one.memory.total_inactive_file, 0),
        memory_cache=one.memory.cache,
        memory_limit=one.memory.usage.limit,
        pids=one.pids.current,
        pids_limit=one.pids.limit,
        oom_kills=one.memory_oom_control.oom_kill,
    )
