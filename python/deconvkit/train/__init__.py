"""Training of the lecture's networks: ``deconvkit train RECIPE``. Needs the extra [train].

A recipe is a YAML file in ``recipes/``, whose first line describes it: a module of ``modules/``, a data
module of ``data.py``, and the trainer's settings. To add one, write the three.
"""
