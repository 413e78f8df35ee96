"""A threaded WSGI server of the standard library, made ready for a shop's traffic."""

import socket
from socketserver import TCPServer, ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication


class Handler(WSGIRequestHandler):
    """Answers one connection; a client that says nothing is let go."""

    timeout = 5

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the load balancer keeps the access log."""


class Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection, and a backlog for the rush hour."""

    request_queue_size = 256
    daemon_threads = False  # a stop waits for the answers that are being written

    def server_bind(self) -> None:
        """Bind without asking a name server what this host is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection whose answers leave at once."""
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


def create(address: str, port: int, application: WSGIApplication) -> Server:
    """Return a server that listens on the address."""
    server = Server((address, port), Handler)
    server.set_app(application)
    return server
