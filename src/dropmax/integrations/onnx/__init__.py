"""Trained models as files for other runtimes."""

from dropmax.integrations.onnx.export import export_onnx

__all__ = ["export_onnx"]
