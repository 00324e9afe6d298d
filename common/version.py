"""What this is called and which Docker Engine its API stands for; shown by `version`, `info` and in node descriptions."""

from typing import Final

SHOAL: Final = "0.1.0"
ENGINE: Final = "28.2.2"  # clients compare it: features of the Engine API up to this one
API: Final = "1.50"
API_MINIMUM: Final = "1.24"
