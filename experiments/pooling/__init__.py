"""Which pooling, which negatives and in which order of training make one encoder good at several tasks?"""
