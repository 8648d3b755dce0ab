"""`deploy quantize`: a quantized copy of a checkpoint, calibrated on pictures and text."""
