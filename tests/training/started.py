"""How tests start the command lines that people type."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from manet_lib.paths import output_root, project_root

BIN = Path(sys.executable).parent


def start(command):
    # what a shell starts in the background ignores Ctrl-C, and so would all that is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = os.environ | {
        "MANET_OUTPUT": str(output_root()),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    return subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        cwd=project_root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
