"""Config and ServerConfig from keyword arguments, then KWIK_… environment variables, then a TOML file.

A client's field `block_bytes` is KWIK_BLOCK_BYTES in the environment and `block_bytes` in the file's [client] table; a
server's `linger_s` is KWIK_SERVER_LINGER_S and stands in [server]. KWIK_CONFIG names the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from kwik.config import Config, ServerConfig
from kwik.errors import ConfigError

Settings = TypeVar("Settings", Config, ServerConfig)
FILE_VARIABLE: Final = "KWIK_CONFIG"
_TABLES: Final = ("client", "server")
_TRUTHS: Final = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(("0", "false", "no", "off"), False)
_SIZES: Final = {"k": 1024, "m": 1024**2, "g": 1024**3}


def client_config(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: str | os.PathLike[str] | None = None,
) -> Config:
    """The client's settings. `file` overrides KWIK_CONFIG. Raises ConfigError, which names the source of the fault."""
    return _load(Config, "client", "KWIK_", overrides, environ=environ, file=file)


def server_config(
    overrides: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: str | os.PathLike[str] | None = None,
) -> ServerConfig:
    """A server's settings; `service` and `server_id` must come from somewhere. Otherwise as `client_config`."""
    return _load(ServerConfig, "server", "KWIK_SERVER_", overrides, environ=environ, file=file)


def _load(
    kind: type[Settings],
    table: str,
    prefix: str,
    overrides: Mapping[str, object] | None,
    *,
    environ: Mapping[str, str] | None,
    file: str | os.PathLike[str] | None,
) -> Settings:
    variables = os.environ if environ is None else environ
    types = {field.name: str(field.type) for field in fields(kind)}
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    path = file if file is not None else variables.get(FILE_VARIABLE) or None
    if path is not None:
        for name, given in _read_table(path, table).items():
            where = f"{name} in [{table}] of {os.fspath(path)}"
            values[name], sources[name] = _checked(given, types, name, where), where
    for name, wanted in types.items():
        variable = prefix + name.upper()
        if variable in variables:
            values[name], sources[name] = _parse(variables[variable], wanted, variable), variable
    for name, given in (overrides or {}).items():
        values[name], sources[name] = _checked(given, types, name, name), f"argument {name}"
    return _build(kind, values, sources)


def _build(kind: type[Settings], values: dict[str, object], sources: dict[str, str]) -> Settings:
    required: set[str] = {"service", "server_id"} if kind is ServerConfig else set()
    if missing := sorted(required - values.keys()):
        raise ConfigError(f"a server needs {' and '.join(missing)}: give it as an argument or in the [server] table")
    chosen: dict[str, Any] = dict(values)
    try:
        return kind(**chosen)
    except ConfigError as error:
        named = [source for name, source in sources.items() if name in error.message]
        raise ConfigError(f"{error.message} (from {', '.join(named)})" if named else error.message) from None


def _read_table(path: str | os.PathLike[str], table: str) -> dict[str, object]:
    try:
        with Path(path).open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {os.fspath(path)}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{os.fspath(path)} is not TOML: {error}") from error
    for name in document:
        if name not in _TABLES:
            raise ConfigError(f"{os.fspath(path)} has an unknown table or key {name!r}: write [client] or [server]")
    found = document.get(table, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{table} in {os.fspath(path)} must be a table: write [{table}]")
    return found


def _checked(given: object, types: Mapping[str, str], name: str, where: str) -> object:
    """The value if its type is that of the field; an int may stand for a float."""
    if name not in types:
        raise ConfigError(f"unknown setting {where}: known are {', '.join(types)}")
    wanted = types[name]
    if wanted == "float" and type(given) is int:
        return float(given)
    if type(given).__name__ != wanted:
        raise ConfigError(f"{where} must be of type {wanted}, not {given!r}")
    return given


def _parse(text: str, wanted: str, variable: str) -> object:
    """An environment variable: numbers, sizes with K, M or G (powers of 1024), yes and no."""
    plain = text.strip()
    try:
        if wanted == "int":
            unit = _SIZES.get(plain[-1:].lower(), 1)
            return int(plain[:-1] if unit > 1 else plain) * unit
        if wanted == "float":
            return float(plain)
        if wanted == "bool":
            return _TRUTHS[plain.lower()]
    except (ValueError, KeyError):
        example = {"int": "a whole number, e.g. 65536 or 64K", "float": "a number", "bool": "yes or no"}[wanted]
        raise ConfigError(f"{variable}={text!r} must be {example}") from None
    return plain
