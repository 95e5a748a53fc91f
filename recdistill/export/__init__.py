"""From a trained student to files that serve it: the graph of its main tower, its tables, its ids."""
