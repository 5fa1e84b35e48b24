"""Which tokens of a large picture does a question need?"""
