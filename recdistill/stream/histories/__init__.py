"""The users' histories, kept for servers: from the run's tables to a file, and from there to Redis."""
