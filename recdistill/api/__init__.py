"""The Python face: a log, a run of it, teachers and students to train on it, and what came of them.

The command line stands on the same classes; what its verbs do is here.
"""
