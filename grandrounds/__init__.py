"""Grand Rounds: train medical vision-language models to reason, so that anyone gets the same bytes again.

Research only, never for clinical use.
"""

__version__ = "0.1.0"
