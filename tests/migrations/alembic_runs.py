"""Runs Alembic for trials in a process of its own for each run, without importing it each time.

``python alembic_runs.py SOCKET`` serves. ``python -S alembic_runs.py SOCKET FOLDER DIRECTION DSN PIDFILE`` asks for a
run, waits for its end, and ends with its exit code.
"""

import os
import socket
import sys


def serve(path: str) -> None:
    """Fork a process for each run."""
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            client, _ = server.accept()
            if os.fork():
                client.close()
                while os.waitpid(-1, os.WNOHANG)[0] if _has_children() else False:
                    pass
                continue
            folder, direction, dsn, pid_file = client.recv(65536).decode().split("\0")
            if (child := os.fork()) == 0:
                config = Config(os.path.join(folder, "alembic.ini"))
                try:
                    with create_engine(dsn).connect() as connection:
                        config.attributes["connection"] = connection
                        (command.upgrade if direction == "forward" else command.downgrade)(
                            config, "head" if direction == "forward" else "base"
                        )
                except Exception as error:
                    print(str(error)[:300], file=sys.stderr)
                    os._exit(1)
                os._exit(0)
            with open(pid_file, "w") as file:
                file.write(str(child))
            _, status = os.waitpid(child, 0)
            client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def ask(path: str, *what: str) -> int:
    """Ask for a run; return its exit code."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall("\0".join(what).encode())
        code = int(client.recv(16) or b"1")
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    sys.exit(ask(*sys.argv[1:]))
