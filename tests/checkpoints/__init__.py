"""Checkpoints that a chaosd of each version wrote, which later ones must read. `python -m tests.checkpoints` writes the one
of this version; those that were released stay as they are."""
