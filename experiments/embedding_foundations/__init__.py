"""Does each foundation of an embedding library do what it promises, beside a peer or a plain rule?"""
