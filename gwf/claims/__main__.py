"""`python -m gwf.claims <profile> <report folder>` writes the ledger, `--print <profile> [<report folder>]` shows it."""

import sys

import yaml

from gwf import paths
from gwf.claims import ledger
from gwf.errors import UsageError, nearest

USAGE = "usage: python -m gwf.claims <profile> <report folder>\n       python -m gwf.claims --print <profile> [<report folder>]"


def report_folder(profile):
    """The report folder of a profile, as its configuration says."""
    profiles = paths.ROOT / "conf" / "profile"
    nearest(profile, [file.stem for file in profiles.glob("*.yaml")], "profile")
    text = (profiles / f"{profile}.yaml").read_text(encoding="utf-8")
    return paths.ROOT / yaml.safe_load(text).get("report", "report")


def main(arguments):
    """Exit code 0; 2 with one line on stderr where it cannot."""
    try:
        if arguments[:1] == ["--print"] and len(arguments) in (2, 3):
            print(ledger.terminal(ledger.read(arguments[2] if len(arguments) == 3 else report_folder(arguments[1]))))
        elif len(arguments) == 2 and not arguments[0].startswith("-"):
            print(ledger.summary(ledger.write(*arguments)))
        else:
            print(USAGE, file=sys.stderr)
            return 2
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
