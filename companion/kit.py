"""What the notebooks of experiments take from this folder, to be imported in one line."""

from companion import results
from companion.claims import NotRun, Outcome, column, mean_of, rename, select, together
from companion.form import check
from companion.sheet import Sheet, led_by, number, spread, summary
from companion.style import REAL, WIDTH, colour, legend, ticks
