"""Every reader of files on damaged ones: the campaign of the tests, which keep the list of readers."""

import collections
import pathlib
import sys

from experiments.reliability.outcomes import COLUMNS, NAMELESS, RIGHT, SILENT, TOLD

SUPPORT = pathlib.Path(__file__).parents[2] / "tests" / "support"


def rows(tries, seed):
    """How reads of damaged files ended, a row for each kind of reader.

    "Right" is here a value of the right kind: text without a checksum reads as what it now says.
    """
    sys.path.insert(0, str(SUPPORT))
    import fuzzing
    import readers

    table, found = fuzzing.campaign(tries, seed), []
    for kind, members in readers.KINDS.items():
        ends = collections.Counter()
        for name in members.keys() & table.keys():
            ends += {RIGHT: table[name]["read"], TOLD: table[name]["refused"]}
            for fault in table[name]["faults"]:
                ends[SILENT if "silently" in fault["fault"] else NAMELESS] += 1
        row = {"campaign": f"a file of {kind} is damaged", "readers": len(members.keys() & table.keys())}
        found.append(row | {"tries": sum(ends.values())} | {end: ends[end] for end in COLUMNS})
    return found
