"""Rows as text: what the plug prints and the pages show."""


def merged(rows, columns=None):
    """Columns, by default all that hold one value, and rows as text; a mean and its spread share a cell.

    >>> merged([{"arm": "guided", "top-1": 0.5, "± top-1": 0.25}])
    (['arm', 'top-1'], [['guided', '0.500 ± 0.250']])
    """
    if columns is None:
        columns = [c for c in dict.fromkeys(c for row in rows for c in row) if not c.startswith("± ")]
        columns = [c for c in columns if not any(isinstance(r.get(c), list | dict) for r in rows)]

    def cell(row, column):
        spread = row.get(f"± {column}")
        return table_cell(row.get(column)) + (f" ± {table_cell(spread)}" if spread is not None else "")

    return list(columns), [[cell(row, column) for column in columns] for row in rows]


def table(rows, columns=None):
    """Lays rows out as an aligned text table; both arguments are those of :func:`merged`.

    >>> print(table([{"method": "BM25", "mrr": 0.381}, {"method": "encoder", "mrr": None}]))
    method     mrr
    BM25     0.381
    encoder      -
    """
    columns, cells = merged(rows, columns)
    widths = [max(len(row[i]) for row in [columns, *cells]) for i in range(len(columns))]
    left = [not any(isinstance(r.get(c), int | float) for r in rows) for c in columns]
    sides = [str.ljust if flush else str.rjust for flush in left]
    lines = [[side(*x) for side, *x in zip(sides, row, widths, strict=True)] for row in [columns, *cells]]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def table_cell(value):
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
