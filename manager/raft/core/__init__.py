"""Agreement on a log, without I/O: ticks, messages and proposals go in, a Ready comes out.

The runner above drives it so: `tick` and `step`, and when `has_ready`: take `ready()`, write its snapshot, entries
and hard state (synced if `must_sync`), then send its messages, apply its committed entries (`apply_conf_change` for
changes of membership), then `advance()`.
"""
