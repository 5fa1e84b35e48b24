"""Are the activations of a diffusion model that saw no label good features of images?"""
