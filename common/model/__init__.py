"""The state model: frozen dataclasses generated from proto/. `from common import model` and say model.Task."""

from common.model.base import Message
from common.model.generated import *
from common.model.generated import __all__ as _generated

__all__ = ["Message", *_generated]
