"""Pictures of what was trained: a function for each verb of the command line."""
