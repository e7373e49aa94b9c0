"""Families of a published Stable Diffusion: any pipeline's folder, any CLIP, pictures from files."""
