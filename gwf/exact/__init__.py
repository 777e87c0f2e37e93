"""Closed forms and certified solutions that networks are held against (numpy, float64).

`gaussian` and `covariance` (Bures distance, JKO steps, Ornstein-Uhlenbeck, floors), `barenblatt` (porous medium), `atoms`
(steps as unbalanced transport, with duality gaps), `grids` (steps on the line), `mixtures` (mode masses of two toys).
"""
