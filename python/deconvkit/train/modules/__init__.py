"""A Lightning module for each family of recipes."""
