"""The report's application on top of the engine: a denoiser trained on pairs of noisy images."""
