"""Does an instruction decide what a multimodal encoder finds similar?"""
