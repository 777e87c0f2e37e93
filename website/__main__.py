"""Write the sources of the site: `python -m website`."""

import sys

from companion.guard import command_line


def write():
    """Write what the notebooks and report/ make of the site, which they are read for at the import."""
    from website import pages

    pages.write()


main = command_line(main=write)

if __name__ == "__main__":
    sys.exit(main())
