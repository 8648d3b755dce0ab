"""The Open Inference Protocol (KServe v2, Triton) over gRPC, in front of the same application as HTTP."""
