"""Maps beside other libraries' (`libraries.py`), before normalisation, of the same weights (extra `zoo`)."""
