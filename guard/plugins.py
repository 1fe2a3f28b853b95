"""What a check plug-in works with; see docs/plug-ins.md. Everything else in guard may change at any time."""

from guard.checks.site import Site
from guard.config.checks.plugin import PluginSettings
from guard.model import Measurement, State

__all__ = ["Measurement", "PluginSettings", "Site", "State"]
