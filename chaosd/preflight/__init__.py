"""What can be known before anything is touched: the target, the rights that an experiment takes, what a run would do
(`plan`), and whether anything stands in its way (`preflight`). Nothing here writes to a cluster, a volume or a ledger.
"""
