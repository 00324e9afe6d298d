"""Flags that many commands share, with the words of their help."""

from __future__ import annotations

from cli.flags import Flag
from cli.values.basic import BOOL, FILTER, STRING

_LEARN_MORE = "Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates"

LIST_FORMAT = Flag(
    "format",
    STRING,
    "Format output using a custom template:\n"
    "'table':            Print output in table format with column headers (default)\n"
    "'table TEMPLATE':   Print output in table format using the given Go template\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n" + _LEARN_MORE,
)

INSPECT_FORMAT = Flag(
    "format",
    STRING,
    "Format output using a custom template:\n"
    "'json':             Print in JSON format\n"
    "'TEMPLATE':         Print output using the given Go template.\n" + _LEARN_MORE,
    short="f",
)

TASK_FORMAT = Flag("format", STRING, "Pretty-print tasks using a Go template")
FILTERS = Flag("filter", FILTER, "Filter output based on conditions provided", short="f")
QUIET_IDS = Flag("quiet", BOOL, "Only display IDs", short="q")
QUIET_TASKS = Flag("quiet", BOOL, "Only display task IDs", short="q")
PRETTY = Flag("pretty", BOOL, "Print the information in a human friendly format")
NO_RESOLVE = Flag("no-resolve", BOOL, "Do not map IDs to Names")
NO_TRUNC = Flag("no-trunc", BOOL, "Do not truncate output")
DETACH = Flag("detach", BOOL, "Exit immediately instead of waiting for the service to converge", short="d")
QUIET_PROGRESS = Flag("quiet", BOOL, "Suppress progress output", short="q")
