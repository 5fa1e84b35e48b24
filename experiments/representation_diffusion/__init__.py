"""Do embeddings that were learnt without labels tell a diffusion model what to draw, and where?"""
