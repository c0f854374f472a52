"""How numbers, times and amounts are written wherever people read them. Pure.

Measured figures have three significant digits (four beside an interval) and k, M, G or T from 10,000 on; below
that no digit before the decimal point is dropped. Counts and amounts of money are exact. Thousands are
separated by commas. A figure that is not known is a dash.
"""

UNKNOWN = "–"
WHOLE = 10_000  # from here on with a prefix
PREFIXES = "kMGT"


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A measured figure: 0.0805, 12.9, 783, 9,958, 12.3k, 2.19M. `signed`: with a + above zero."""
    if value is None:
        return UNKNOWN
    sign = "+" if signed else ""
    if not value:
        return "0"
    if round(abs(value)) < WHOLE:
        return _rounded(value, digits, sign)
    thousands = min(_exponent(value, digits) // 3, len(PREFIXES))
    return _rounded(value / 1000**thousands, digits, sign) + PREFIXES[thousands - 1]


def stated(value: float) -> str:
    """A figure of the configuration, as it was given: 0.5, 1.9, 53,000."""
    return f"{value:,.12g}"


def usd(value: float) -> str:
    """An amount of money: cents below $1,000, whole dollars from there on."""
    if not value:
        return "$0"
    sign, size = "-" if value < 0 else "", abs(value)
    return f"{sign}${size:,.{2 if round(size, 2) < 1000 else 0}f}"


def duration(seconds: float) -> str:
    """A time in the unit of its size: 35 s, 38 min, 16.3 h, 4.0 days."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 72 * 3600 else f"{seconds / 86400:.1f} days"


def counted(count: int, noun: str) -> str:
    """1 trial, 12,345 trials."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _exponent(value: float, digits: int) -> int:
    """Of ten, once the value is rounded to so many significant digits."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _rounded(value: float, digits: int, sign: str) -> str:
    exponent = _exponent(value, digits)
    if exponent < -4:
        return f"{value:{sign}.{digits - 1}e}"
    return f"{value:{sign},.{max(digits - 1 - exponent, 0)}f}"
