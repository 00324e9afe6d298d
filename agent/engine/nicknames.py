"""Names for services that are created without one: "calm_herring". Pure; called by services.py."""

from __future__ import annotations

from typing import Final

_HOW: Final = (
    "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "cheerful", "clever", "coral", "curious", "daring",
    "deep", "eager", "early", "fair", "famous", "fleet", "gentle", "glad", "golden", "happy", "hardy", "honest",
    "humble", "jolly", "keen", "kind", "lively", "loyal", "lucky", "mellow", "merry", "mighty", "modest", "nimble",
    "noble", "patient", "playful", "proud", "quick", "quiet", "rapid", "ready", "royal", "serene", "sharp", "shiny",
    "silent", "silver", "sleek", "smart", "steady", "sturdy", "sunny", "swift", "tidy", "tranquil", "upbeat", "vivid",
    "warm", "wise", "witty", "young",
)  # fmt: skip
_WHO: Final = (
    "anchovy", "barbel", "bass", "bonito", "bream", "burbot", "carp", "catfish", "chub", "cod", "dab", "dace",
    "darter", "eel", "flounder", "garfish", "goby", "grayling", "grouper", "guppy", "gurnard", "haddock", "hake", "halibut",
    "herring", "lamprey", "ling", "loach", "mackerel", "marlin", "minnow", "mullet", "perch", "pike", "pilchard", "plaice",
    "pollock", "puffer", "ray", "roach", "rudd", "sailfish", "salmon", "sardine", "seahorse", "shad", "shark", "smelt",
    "snapper", "sole", "sprat", "sturgeon", "sunfish", "tarpon", "tench", "tetra", "trout", "tuna", "turbot", "wahoo",
    "whitebait", "whiting", "wrasse", "zander",
)  # fmt: skip
COUNT: Final = len(_HOW) * len(_WHO)


def nickname(number: int, attempt: int = 0) -> str:
    """The name for a random number below COUNT; later attempts add a digit, as the plain name was taken."""
    how, who = divmod(number, len(_WHO))
    return f"{_HOW[how]}_{_WHO[who]}{attempt or ''}"
