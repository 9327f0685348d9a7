"""Exact, fast segmentation of steel micrograph mosaics in bounded memory."""
