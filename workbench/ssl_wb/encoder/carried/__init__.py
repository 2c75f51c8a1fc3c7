"""Code that is written into exported folders, file by file, with its imports of the workbench made public ones."""
