"""Which word vectors are good: against gensim, by model, by text, below classifiers?"""
