"""Which filters can be cut from a net that was trained on few and unbalanced pictures?"""
