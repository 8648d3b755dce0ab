"""From a deployment and prompts to generated text, whoever asks: server, pipeline, benchmark."""
