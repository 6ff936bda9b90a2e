"""Kept documents become packed token samples in equal row groups, and manifests that pin them."""
