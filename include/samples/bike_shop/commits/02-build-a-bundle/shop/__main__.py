"""Serve the shop until SIGTERM."""

import signal
import sys
import threading
from types import FrameType

from . import config, control, pages, server


def main() -> int:
    """Serve until asked to stop; requests that have begun are answered first."""
    settings = config.load()
    with control.claim():
        httpd = server.create(settings.address, settings.port, pages.application(settings))

        def stop(_signal: int, _frame: FrameType | None) -> None:
            # shutdown() waits for the loop that this handler interrupts, so it needs a thread of its own.
            threading.Thread(target=httpd.shutdown).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        print(f"bike-shop {settings.version} serves http://{settings.address}:{settings.port}", flush=True)
        httpd.serve_forever(poll_interval=0.1)
        httpd.server_close()
    print(f"bike-shop {settings.version} stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
