"""How robust is what was trained on one source, on another, and on a mixture of both?"""
