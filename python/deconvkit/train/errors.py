"""What stops a training, in one line for the user."""


class TrainingError(RuntimeError):
    """A run that failed."""


class RunFolderError(ValueError):
    """A folder that a run cannot use, or arguments that no recipe takes."""
