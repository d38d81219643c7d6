"""What may be compared: records of one crypto, and never of two.

A number that is good for one crypto is bad for another. To type checkers the records of two cryptos are two types that
have nothing in common, and at run time they are refused; a record has no order of its own, so that nothing sorts them
in passing.
"""

from collections.abc import Sequence

from cvntrade_assets.operations.correlation_data import C, CorrelationData


def change(before: CorrelationData[C], after: CorrelationData[C], name: str) -> float | None:
    """How much a measured number of one crypto changed; None when either is undefined.

    Raises:
        TypeError: the records are of two cryptos, or the field is no number.
        AttributeError: a record has no such field.
    """
    require_one_crypto((before, after))
    old, new = getattr(before, name), getattr(after, name)
    for value in (old, new):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise TypeError(f"{name} is {value!r}, which is no measured number")
    return None if old is None or new is None else new - old


def require_one_crypto(records: Sequence[CorrelationData[C]]) -> None:
    """Let nothing through but records of one crypto.

    Raises:
        TypeError: the records are of several cryptos.
    """
    cryptos = sorted({record.crypto for record in records})
    if len(cryptos) > 1:
        raise TypeError(f"records of {', '.join(cryptos)} are not comparable: compare records of one crypto")
