"""A first look at an unknown log: guesses, each with its reason and doubt, and the experiment file that they make."""
