"""`python -m manager` is shoal-manager."""

from manager.daemon import main

main()
