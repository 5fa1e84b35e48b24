"""Which texts of a pool should a language model be trained on, to be good at a target?"""
