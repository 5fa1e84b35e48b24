"""Which pairs of picture and caption should be kept: does a network trained on a few clean ones know?"""
