"""What jsonargparse complains about, in one line that says what came and what was expected."""

from __future__ import annotations

import re


def one_line(message: str) -> str:
    """The line of a nested parser error that tells what came and what was expected.

    jsonargparse tries every type that an option may have and reports all failures; the first one that is not about
    ``None`` is the user's.
    """
    message = message.split("Given value type:")[0]
    if "Errors:" in message:
        causes = [line.strip() for line in message.split("Errors:")[-1].split("\n") if line.strip(" -")]
        causes = [cause.lstrip("- ") for cause in causes if "NoneType" not in cause]
        message = causes[0] if causes else message
    return " ".join(line.strip(" -") for line in message.splitlines() if line.strip())


def unfit_value(message: str) -> str | None:
    """``NAME must be KIND, got VALUE`` or, of several kinds, ``NAME cannot be VALUE``; None where it is about something
    else. NAME is the last part of the key."""
    line = " ".join(message.split())
    if found := re.search(r'key "([\w.]+)"(?: element \d+)?: Expected an? (.+)\. Got value: (.*)', line):
        kind = re.sub(r"typing\.Literal\[(.+)\]", r"one of \1", found[2].replace("'", ""))
        kind = re.sub(r"<class (.+)>", r"of type \1", kind)
        return f"{found[1].split('.')[-1]} must be {kind}, got {found[3]}"
    if found := re.search(r'.*key "([\w.]+)":.*Given value: (.*)', line):
        return f"{found[1].split('.')[-1]} cannot be {found[2]}"
    return None
