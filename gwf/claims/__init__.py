"""The claims ledger: what the five works say, how it is checked here, and what came out.

- `claims/*.yaml` (one per work): every claim in our own words, its published evidence, how far that can be trusted, the
  check, the acceptance band, and what would turn the verdict.
- `checks/*.py`: one small function per computed claim, `check(evidence) -> Outcome`, with its controls: the same check
  on broken evidence.
- `outcome`: the one rule from measured values and bands to a verdict.
- `sources`: where evidence comes from (closed forms, low-dimensional studies, runs of the profile).
- `ledger`: reads the claims, runs the checks and writes `claims.csv` and `claims.md`.

Command line::

    python -m gwf.claims laptop report           # writes report/claims.csv and report/claims.md
    python -m gwf.claims --print laptop          # shows the ledger that was written
"""
