"""The base of faces and objects: a tiny Stable Diffusion and a tiny CLIP, trained here."""
