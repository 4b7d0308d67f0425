"""The studio's HTTP: routes, forms, streams, and who may call them."""
