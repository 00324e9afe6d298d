"""A cancellation that was swallowed on the way, found again: common/cancellation.py."""

from common.cancellation import still_wanted

__all__ = ["still_wanted"]
