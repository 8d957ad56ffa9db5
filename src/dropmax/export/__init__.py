"""Trained models as files for other runtimes."""

from dropmax.export.onnx import export_onnx

__all__ = ["export_onnx"]
