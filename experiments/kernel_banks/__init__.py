"""Which filters should a convolution begin with, and do filters from data need no training?"""
