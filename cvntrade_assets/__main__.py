"""`python -m cvntrade_assets`: the `cvntrade` command line without its console script."""

from cvntrade_assets.cli import main

main()
