"""Pid 1 of a throw-away host: reaps orphans, and ends (a power cut) when its owner's pipe on stdin closes.

The owner never writes to the pipe. When it dies, however it dies, the kernel closes the pipe, this process ends, and
the kernel kills everything else in the pid namespace. So no host outlives its owner.
"""

import contextlib
import os
import select
import signal


def main() -> None:
    wake, alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm)
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if 0 in ready and not os.read(0, 1):
            return
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main()
