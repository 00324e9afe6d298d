"""Shoal measured beside a real Docker Swarm, in one run on one machine: ``make bench``."""
