"""Every error guard raises on purpose, each with the exit code the command line ends with.

GuardError                      1   something unexpected, but understood well enough to be said plainly
├── UsageError                  2   the command line or an argument is wrong
├── ConfigError                 2   the configuration, inventory or a playbook folder is wrong
│   └── InventoryError          2
├── PlaybookError               2   no such version, or a folder whose content does not match its digest
├── StateError                  1   the state folder or the store cannot be used
│   └── StoreUnavailable        1
├── EngineError                 1   a Docker engine refused or failed a request
│   ├── EngineUnreachable       1   the way to the engine is down (SSH, permission): nothing is known about it
│   └── EngineDown              1   the way is open, and nothing answers at the engine's end
├── LeaseHeld                  75   another guard holds this service
├── LeaseLost                  75   this guard's lease was taken over: it must stop
├── Refused                     5   a rule says no: deliberately nothing was done
└── Interrupted           130/143   SIGINT or SIGTERM, with everything recorded

A message says what happened and where; ``hint`` says what to do next.
"""

from __future__ import annotations


class GuardError(Exception):
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(GuardError):
    exit_code = 2


class ConfigError(GuardError):
    exit_code = 2


class InventoryError(ConfigError):
    pass


class PlaybookError(GuardError):
    exit_code = 2


class StateError(GuardError):
    pass


class StoreUnavailable(StateError):
    pass


class EngineError(GuardError):
    pass


class EngineUnreachable(EngineError):
    pass


class EngineDown(EngineError):
    pass


class LeaseHeld(GuardError):
    exit_code = 75


class LeaseLost(GuardError):
    exit_code = 75


class Refused(GuardError):
    exit_code = 5


class Interrupted(GuardError):
    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
