"""OptEmbed on clicks whose truth is known; see ``__main__``."""
