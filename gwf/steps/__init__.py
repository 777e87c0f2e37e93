"""Time steps: how a functional moves a map. They know functionals and networks, and nothing about data sets."""
