"""What a data set holds, in text and in a picture."""
