"""Gives the kernel random numbers of its own.

All kernels that are restored from one image have its state, and would draw the
same numbers. What asks the system (os.urandom, uuid4, secrets, a new default_rng)
differs anyway.
"""

import random
import sys
import tempfile

random.seed()
tempfile._name_sequence = None
if "numpy" in sys.modules:
    sys.modules["numpy"].random.seed()
