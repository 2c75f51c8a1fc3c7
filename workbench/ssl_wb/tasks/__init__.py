"""Labelled clips and how they are divided into train, validation and test."""
