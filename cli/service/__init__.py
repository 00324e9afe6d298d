"""`shoal service …`: the group; each command has its module."""

from __future__ import annotations

from cli.command import Entry, Group

GROUP = Group(
    "Manage Swarm services",
    (
        Entry("create", "Create a new service", "cli.service.create:CREATE"),
        Entry(
            "inspect", "Display detailed information on one or more services", "cli.service.inspect:INSPECT"
        ),
        Entry("logs", "Fetch the logs of a service or task", "cli.service.logs:LOGS"),
        Entry("ls", "List services", "cli.service.listing:LS", ("list",)),
        Entry("ps", "List the tasks of one or more services", "cli.service.listing:PS"),
        Entry("rm", "Remove one or more services", "cli.service.change:RM", ("remove",)),
        Entry("rollback", "Revert changes to a service's configuration", "cli.service.change:ROLLBACK"),
        Entry("scale", "Scale one or multiple replicated services", "cli.service.change:SCALE"),
        Entry("update", "Update a service", "cli.service.update:UPDATE"),
    ),
)
