"""The supervisor of several serving processes."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from uvicorn.supervisors import Multiprocess


class Supervisor(Multiprocess):
    """Hands SIGHUP on: each process takes the file over by itself, and keeps what it has if not.

    Starting all of them anew, as uvicorn does, would end in none where the file is bad.
    """

    def handle_hup(self) -> None:
        """Tell every process to read the configuration again."""
        for process in self.processes:
            if process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGHUP)
