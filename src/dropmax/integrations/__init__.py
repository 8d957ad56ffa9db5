"""Models and tools of other frameworks, one file each, imported where they are used."""
