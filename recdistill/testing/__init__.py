"""What tests need inside the product: named places to be killed at."""
