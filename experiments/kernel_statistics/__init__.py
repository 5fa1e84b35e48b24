"""What do the kernels of trained networks tell?"""
