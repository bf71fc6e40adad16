"""The forms a law may take: declarations with exact derivatives; knows nothing of data or fits."""
