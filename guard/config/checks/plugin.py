"""Checks of types that other packages bring: entry points of the group ``guard.checks``, with settings of their own."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from guard.config import fields
from guard.config.checks.base import CheckBase
from guard.config.substitute import check_template

GROUP = "guard.checks"


class PluginSettings(CheckBase):
    """Base of a plug-in's settings: what every check has, and the keys that the plug-in adds as fields.

    Every text may hold ``{{ variable }}``; a plug-in gets it replaced.
    """

    type: Annotated[fields.Name, Field(description="A type that a plug-in brings.")]

    @field_validator("*", mode="after")
    @classmethod
    def _only_variables(cls, value: object) -> object:
        if isinstance(value, str):
            check_template(value)
        return value

    @classmethod
    def own_fields(cls) -> tuple[str, ...]:
        return tuple(name for name in cls.model_fields if name not in PluginSettings.model_fields)

    def texts(self) -> dict[str, str]:
        """The plug-in's own texts by key."""
        values = {name: getattr(self, name) for name in self.own_fields()}
        return {name: value for name, value in values.items() if isinstance(value, str)}

    def templates(self) -> tuple[str, ...]:
        return tuple(self.texts().values())


@cache
def installed() -> dict[str, EntryPoint]:
    """Entry points by type; guard's own come before others of the same name."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.value.startswith("guard.checks."))
    return {point.name: point for point in points}


@cache
def settings_of(type_: str) -> type[PluginSettings]:
    """The plug-in's ``Settings``. ValueError (with a sentence) when the plug-in is no use."""
    point = installed()[type_]
    where = f"the plug-in {point.value} for checks of type {type_}"
    try:
        settings = getattr(point.load(), "Settings", PluginSettings)
    except Exception as error:  # whatever a foreign module does when it is imported
        raise PydanticCustomError("plug_in", "{said}", {"said": f"{where} cannot be loaded: {error!r}"}) from error
    if not (isinstance(settings, type) and issubclass(settings, PluginSettings)):
        said = f"{where} is broken: its Settings must derive from guard.plugins.PluginSettings"
        raise PydanticCustomError("plug_in", "{said}", {"said": said})
    return settings


def _settings(value: object, info: ValidationInfo) -> object:
    """pydantic keeps the places of the errors that the inner validation raises."""
    if not isinstance(value, dict):
        return value
    return settings_of(value["type"]).model_validate(value, context=info.context)


PluginCheck = Annotated[SerializeAsAny[PluginSettings], BeforeValidator(_settings)]
