"""What experiments share: flags, results, pictures. A module here has at least three users."""
