"""Data of the recipes: what ships in dependencies' wheels, and readers of what users have."""
