"""Latent diffusion models: the UNet of Stable Diffusion."""
