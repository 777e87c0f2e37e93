"""`python -m gwf.data` checks all files of data/ and prints a line for each."""

import sys

from gwf.data.embedded import main

sys.exit(main())
