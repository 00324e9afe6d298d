"""The state model: frozen dataclasses generated from proto/. `from common import model` and say model.Task."""

from common.model.generated import *  # noqa: F403
