"""Reports: what came of a run, for machines (`verdict`) and for people (`text`). Made from the history alone."""
