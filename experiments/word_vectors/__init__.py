"""Which word vectors are good: against gensim, by model, by domain and size of the text?"""
