"""From a deployment and prompts to generated text, whatever asks: the HTTP server, the pipeline, a benchmark."""
