"""Targeted transfer learning for small medical image datasets, in notebooks."""
__version__ = "0.1.0"
