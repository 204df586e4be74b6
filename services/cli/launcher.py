"""Starts a program that may not outlive its parent: `launcher.py SIGNAL PARENT UID GID PROGRAM ARGUMENT...`.

The kernel sends SIGNAL to the program when the process PARENT dies, even by `kill -9`. UID and GID are "-" or the
account to become first: a change of account clears the signal, so it is asked for afterwards. A program of its own,
and not code between fork and exec in the parent, because the parent has threads. Run with `python -I -S`: it imports
nothing but the standard library.
"""

import ctypes
import os
import resource
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the program."""
    # Its memory holds secrets and never goes to disk: with a limit of 1 the kernel neither writes a core file nor
    # starts a program that would take one (a limit of 0 forbids files alone, and cannot be raised).
    core_limit = 0 if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (core_limit, core_limit))
    death_signal, parent, uid, gid, *command = sys.argv[1:]
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        sys.exit(f"launcher: prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        # The parent died before the kernel knew what to do then.
        sys.exit("launcher: the parent is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606  # becoming another program is what this is for
    except OSError as error:
        sys.exit(f"launcher: {command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
