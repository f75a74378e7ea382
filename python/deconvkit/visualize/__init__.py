"""Pictures of what networks have learned.

Every function returns a matplotlib Figure; nothing is shown or saved. Needs the extra [demo]. Arrays are
NumPy's; images have values in [0, 1].
"""
