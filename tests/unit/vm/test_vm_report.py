"""What commands in the virtual machines say, read by tests/vm/report.py."""

from __future__ import annotations

from tests.vm import report

LISTING = """table ip shoal_seals {
	chain plan_0123 {
	}

	chain sealed_out {
		type filter hook output priority filter; policy accept;
		udp dport 4790 rt ipsec missing counter packets 7 bytes 0 drop
	}

	chain sealed_in {
		type filter hook input priority filter; policy accept;
		udp dport 4790 meta ipsec missing counter packets 3 bytes 0 drop
	}
}
table ip shoal_seals_held { # progname shoal-net
	flags owner

	chain sealed_in {
		type filter hook input priority filter; policy accept;
		udp dport 4790 meta ipsec missing counter packets 2 bytes 0 drop
	}
}
"""


def test_what_both_tables_have_dropped() -> None:
    assert report.dropped(LISTING, "sealed_in") == 5
    assert report.dropped(LISTING, "sealed_out") == 7
    assert report.dropped("", "sealed_in") == 0


def test_pings() -> None:
    assert report.ping("25 packets transmitted, 24 received, 4% packet loss, time 4810ms") == (25, 24)
    assert report.ping("") == (0, 0)
