"""The warehouse as runs and ticks are given it; apart, so that a command that reads PostgreSQL imports no Dagster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from resources.dagster_address import dagster_url
from resources.warehouse import Warehouse


class WarehouseResource(dg.ConfigurableResource[Warehouse]):
    """Hands out the warehouse; the address comes from the environment because it holds a secret."""

    url: str

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Warehouse]:
        """Open for a run, close after it."""
        del context
        warehouse = Warehouse(self.url, dagster_url(os.environ))
        try:
            yield warehouse
        finally:
            warehouse.close()
