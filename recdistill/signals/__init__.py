"""Teachers' predictions as columns in the order of the store: recorded, cross-fitted, imported."""
