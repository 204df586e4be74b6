"""What a command says when it cannot do what was asked: one clear sentence on standard error and an exit code.

CommandError (exit code 1)
├── UsageError (2): asked in a way that cannot be meant
└── NotRunningError (3): the stack of the folder is not up
"""

from __future__ import annotations


class CommandError(Exception):
    """The command could not be carried out; the message is a sentence for a person and says what to do."""

    exit_code = 1


class UsageError(CommandError):
    """The command line contradicts itself or what is there."""

    exit_code = 2


class NotRunningError(CommandError):
    """The stack of the folder is not up."""

    exit_code = 3
