"""``deconvkit bench``: providers compared on the layers of real networks, in turns and in one process."""
