"""Do dictionary definitions, classified to vectors of their entries, make a sentence encoder better?"""
