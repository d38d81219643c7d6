"""`cvntrade factors`: every factor with its variants, and what to know before running one of them."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.operations.factors import FACTORS, overlaps, undone
from cvntrade_assets.settings import Settings


def print_factors(console: Console) -> None:
    """A table of the factors, and one of their variants; the first variant of a factor spells out the defaults."""
    factors = Table("factor", "category", "kind", "staged rollout", "meaning", title="Factors")
    variants = Table("factor", "variant", "sets", title="Variants")
    for table in (factors, variants):
        table.columns[0].no_wrap = True
    for factor in FACTORS.values():
        staged = f"required: {factor.staged}" if factor.staged else "not required"
        factors.add_row(factor.name, factor.category, factor.kind, staged, factor.meaning)
        for variant, texts in factor.variants.items():
            assignments = ", ".join(f"{key}={text}" for key, text in texts.items())
            variants.add_row(factor.name, variant, escape(assignments))
        variants.add_section()
    console.print(factors)
    console.print(variants)


def print_warnings(settings: Settings, console: Console) -> None:
    """What makes the chosen variants hard to judge, a line each."""
    for sentence in (*overlaps(settings.variants), *undone(settings)):
        console.print(f"[yellow]warning:[/yellow] {escape(sentence)}")
