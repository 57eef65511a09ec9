"""The vocabulary of the registry and its pure rules: no input or output, no HTTP, no database.

The words are those of the design: a *model* has *versions*, a version has a *tree* of files and is
found by *number*, *label* or *alias*; a *draft* is a labelled *folder* on its way to a version; a
*principal* is whoever acts. Units are those of `store`.
"""
