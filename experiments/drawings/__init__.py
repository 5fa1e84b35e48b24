"""Does a small diffusion model draw what its prompt asks, and what does guidance change?"""
