"""The status page of a daemon, and its JSON: `run_status` folds what a run does, `document` is what is told, `page` shows
it, `feed` shares one look among all who watch, `routes` serves it, `switch` pauses and resumes."""
