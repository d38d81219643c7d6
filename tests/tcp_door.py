"""A door in front of a TCP server: shutting it cuts every connection that goes through; it opens again where it was."""

import contextlib
import socket
import threading
from typing import Self


class TcpDoor:
    """Passes connections to a port of 127.0.0.1 on to another one, while it is open.

    Args:
        behind: The port of the server.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._serve()
        return self

    def __exit__(self, *error: object) -> None:
        self.shut()

    def shut(self) -> None:
        """Refuse new connections, and cut those that are there."""
        # Without it `accept` goes on waiting for a connection that nobody makes any more.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        """Let connections through again, at the same port."""
        self._listener = self._listen(self.port)
        self._serve()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(200)
        return listener

    def _serve(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._behind))
            except OSError:
                return
            with self._lock:
                self._connections |= {client, server}
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with self._lock:
            for connection in (source, target):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                    connection.close()
            self._connections -= {source, target}
