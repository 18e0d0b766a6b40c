"""Read the settings from the command line, the environment and a config file.

What cannot be used is refused by its name, with the source that gave it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from forethought.api.settings import ENV_PREFIX, NO_DEFAULT, TWO_MODES, Settings
from forethought.router.errors import ConfigError


def load_settings(config: Path | None = None, **given: Any) -> Settings:
    """Read all sources; ``given`` comes from the command line, None meaning not given.

    Raises:
        ConfigError: A source cannot be read or a value cannot be used; it names the field.
    """
    from_file = {} if config is None else _read_toml(config)

    class _WithFile(Settings):
        given_by_file = from_file

    _WithFile.__name__ = _WithFile.__qualname__ = Settings.__name__
    try:
        return _WithFile(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise _invalid(error, config, from_file, given) from error
    except SettingsError as error:
        raise ConfigError(
            f"A setting in the environment cannot be read ({error}).",
            param="environment",
            remedy=f"Tables such as {ENV_PREFIX}API_KEYS are given as JSON.",
        ) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"The config file {path} cannot be read ({reason}).",
            param=str(path),
            remedy="Check its path and its permissions.",
        ) from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"The config file {path} is not TOML ({error}).", param=str(path)
        ) from error


def _invalid(
    error: ValidationError,
    config: Path | None,
    from_file: Mapping[str, Any],
    given: Mapping[str, Any],
) -> ConfigError:
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == TWO_MODES:
        named = str(first.get("ctx", {}).get("given"))
        return ConfigError(
            f"The settings {named} exclude each other: one of them configures the policy.",
            param=named.replace(" and ", ", "),
            remedy="Keep one of them.",
        )
    if first["type"] == NO_DEFAULT:
        named = str(first.get("ctx", {}).get("given"))
        return ConfigError(
            f"Nothing says which of the upstreams {named} takes the models that name none.",
            param="model",
            remedy="Let the setting 'model' begin with its name, such as "
            f"{named.split(', ')[0]}/..., or give upstream_base_url.",
        )
    # Below a table of secrets even a key is one.
    place = first["loc"][:1] if first["loc"][:1] == ("api_keys",) else first["loc"]
    field = ".".join(map(str, place)) or "settings"
    top = str(first["loc"][0]) if first["loc"] else ""
    if given.get(top) is not None:
        source = f"the option --{top.replace('_', '-')}"
    elif top in from_file and config is not None:
        source = f"{config}"
    else:
        source = f"the environment ({ENV_PREFIX}{top.upper()})"
    unknown = first["type"] == "extra_forbidden"
    what = "is not a setting" if unknown else f"cannot be used: {first['msg']}"
    return ConfigError(
        f"The setting '{field}' {what}.", param=field, remedy=f"It was given by {source}."
    )
