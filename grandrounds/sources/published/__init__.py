"""Published sets, one module each: a declaration of where their columns are, under which licence, by whom."""
