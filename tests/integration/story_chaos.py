"""Thirty seconds of chaos, judged. The long one: tests/crash/run --long."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "crash"))
from chaos import Chaos, stage  # noqa: E402,F401

if __name__ == "__main__":
    stage.main()
