"""The drill: faults are planted on purpose, and each must be found under its own name; healthy runs beside them must raise
nothing. Whoever watched that has a reason to trust a pass.

`simulated` drills in simulated clusters, where every class can be planted (chaosd.simulation.plants). `on_cluster` plants
through the probe what can be planted so (`plants`); on a real cluster in the namespace and StatefulSet that `target` makes.
`table` and `progress` are what is shown.
"""
