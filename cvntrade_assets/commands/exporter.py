"""`cvntrade exporter`: tells Prometheus how things stand, for as long as it runs."""

import threading

from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console
from rich.markup import escape

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from resources.exporter import OperationsCollector
from resources.secrets import process_mask


def export(connection: Connection, host: str, port: int, console: Console) -> None:
    """Serve the metrics until the process is ended.

    Raises:
        CommandError: the address cannot be listened on.
    """

    def tell(text: str) -> None:
        console.print(f"[yellow]{escape(process_mask().text(text))}[/yellow]", soft_wrap=True)

    warehouse = connection.warehouse()
    collector = OperationsCollector(warehouse.address, tell, dagster=warehouse.dagster_address)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another address with --host, --port."
        ) from None
    console.print(f"Metrics: http://{host}:{server.server_port}/metrics, until Ctrl-C", soft_wrap=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        collector.close()
