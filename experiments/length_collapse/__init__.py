"""Do embeddings of longer texts crowd together, and does a temperature of the attention spread them?"""
