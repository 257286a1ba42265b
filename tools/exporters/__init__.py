"""Real files of exporters beside the spellings of models/exporters.py: ``python -m tools.exporters``.

Each needs its framework, which this project does not install: what is absent is left out.
"""
