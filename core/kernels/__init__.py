"""Triton twins of the operations in `core.ops`, for GPUs; chosen in `ops/_backend.py` and nowhere else.

Of each there are two files: `X.py` makes torch operations of it and can be imported anywhere; `X_triton.py` holds the
programs, and triton is loaded with it at the first call.
"""
