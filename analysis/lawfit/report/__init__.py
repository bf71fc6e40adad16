"""The report of a study as one HTML page: `page` writes it, `law_section` puts a law into words."""
