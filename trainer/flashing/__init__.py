"""Onto the cart: packages, card images, cards and the gateway's files, all made from one SITE.yaml."""
