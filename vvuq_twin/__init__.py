"""Data assimilation and VVUQ for image-guided digital twins in cancer therapy."""

__version__ = "0.1.0"
