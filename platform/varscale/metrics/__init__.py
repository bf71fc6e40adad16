"""Measures of images as pure functions of pixels and features; knows no data set."""
