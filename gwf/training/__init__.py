"""Training of one method on one data set.

A method is a functional and a time step (`recipes`); a step is a trainer with its own settings; a data set is a task: source,
networks, samples (`tasks`). `loop.run` trains; measuring is another matter.
"""
