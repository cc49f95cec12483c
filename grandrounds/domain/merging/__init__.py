"""Merging of LoRA updates, one module a family of methods; `merge` puts them together."""
