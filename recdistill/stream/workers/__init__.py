"""The processes of models that follow the tables."""
