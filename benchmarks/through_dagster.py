"""The chain for one crypto as a Dagster run in this process, on the instance that the environment names.

Started by `benchmarks.chain`, which prepares PostgreSQL, the folders and the environment.
"""

import sys


def main() -> None:
    """Execute the job for one partition; a failure ends the benchmark."""
    # Tuning's workers import the main module again; in a real run that is Dagster's, which they skip.
    import dagster as dg

    from cvntrade_assets.definitions import defs

    crypto, as_of = sys.argv[1:]
    settings = {"CVN_MARKET": "simulated", "CVN_AS_OF": as_of}
    config = {"resources": {"run_settings": {"config": {"settings": settings}}}}
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("crypto", [crypto])
        job = defs.resolve_job_def("candles_to_report")
        job.execute_in_process(instance=instance, partition_key=crypto, run_config=config)


if __name__ == "__main__":
    main()
