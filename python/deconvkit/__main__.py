"""``python -m deconvkit`` is the ``deconvkit`` command."""

import sys

from deconvkit.cli import main

sys.exit(main())
